"""Draining the queue: the command line, the drain loop, the model process, the controller.

`submit`, `drain` and `results` are the program as a library. They are imported when they are
first asked for, so that a command line that only prints its help loads nothing else.
"""

# not of `typing`: this runs before the command line has left the working folder out of where
# modules are looked for
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from .api import Options, Summary, drain, results, submit

__all__ = ["Options", "Summary", "drain", "results", "submit"]


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def __getattr__(name: str) -> "Any":
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)
