"""The SQLite file: its schema, the queue in it, what was recorded, and reports.

Connections come from `open_store` (for writing) and `open_reader`; every function takes one and
opens its own transaction. Both are imported when they are first asked for.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import open_reader, open_store

__all__ = ["open_reader", "open_store"]

_UNUSED = ("numpy", "pandas")


def _import_sqlite_utils() -> None:
    """Import sqlite-utils without what it imports wherever that is installed.

    Nothing here uses it, and pandas alone takes a second and 70 MB of each command.
    """
    hidden = [name for name in _UNUSED if name not in sys.modules]
    try:
        # an import of a name that is `None` raises ImportError
        sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]
        import sqlite_utils  # noqa: F401
    except ImportError:
        pass  # a plugin of sqlite-utils may need them: whoever imports it next has both
    finally:
        for name in hidden:
            del sys.modules[name]


_import_sqlite_utils()


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import connection

    return getattr(connection, name)
