"""The SQLite file: its schema, the queue in it, what was recorded, and reports.

Connections come from `open_store` (for writing) and `open_reader`; every function takes one and
opens its own transaction. Both are imported when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import open_reader, open_store

__all__ = ["open_reader", "open_store"]


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import connection

    return getattr(connection, name)
