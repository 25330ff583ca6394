"""The time as the database holds it."""

from datetime import UTC, datetime


def now() -> str:
    """Return the current time as UTC ISO 8601 text with milliseconds and `Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
