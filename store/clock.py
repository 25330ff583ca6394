"""The time as the database holds it."""

from datetime import UTC, datetime


def now() -> str:
    """Return the current time as UTC ISO 8601 text with milliseconds and `Z`."""
    return iso(datetime.now(UTC))


def iso(moment: datetime) -> str:
    """Return a time in UTC as such a text."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
