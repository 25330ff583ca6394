"""mh-batch in Python: queue conversations, have a model answer them, read the answers.

Everything is imported when it is first asked for: `import mh_batch` alone is quick.
"""

# not of `typing`: this runs before the command line has left the working folder out of where
# modules are looked for
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from mh_batch.worker.api import (
        Job,
        Options,
        Progress,
        Summary,
        adrain,
        cancel,
        drain,
        results,
        retry,
        status,
        submit,
    )

    __version__: str

__all__ = [
    "Job",
    "Options",
    "Progress",
    "Summary",
    "__version__",
    "adrain",
    "cancel",
    "drain",
    "results",
    "retry",
    "status",
    "submit",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        from importlib.metadata import version

        return version("mh-batch")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mh_batch.worker import api

    return getattr(api, name)
