"""What only some commands need, and an ordinary installation lacks."""

import importlib.util

from mh_batch.jobs.errors import InputError


def require_pyarrow(what: str) -> None:
    """Raise `InputError` with the cure if pyarrow is not installed; `what` needs it."""
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{what} needs pyarrow: pip install 'mh-batch[data]'")
