"""What only some commands need, and an ordinary installation lacks."""

import importlib.util

from mh_batch.jobs.errors import InputError


def require_pyarrow(what: str) -> None:
    """Raise `InputError` with the cure if pyarrow is not installed; `what` needs it."""
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{what} needs pyarrow: pip install 'mh-batch[data]'")


def require_server() -> None:
    """Raise `InputError` with the cure if what `serve` needs is not installed."""
    for name in ("starlette", "uvicorn", "python_multipart"):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"serve needs {name}: pip install 'mh-batch[serve]'")
