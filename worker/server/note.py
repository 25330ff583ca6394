"""What the server says beside its answers."""

import sys

from mh_batch.worker.text.escape import escape_controls


def note(text: str) -> None:
    """Print a line to standard error."""
    sys.stderr.write(f"mh-batch: {escape_controls(text)}\n")
    sys.stderr.flush()
