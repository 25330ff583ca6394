"""SQLite on one thread: a connection belongs to the thread that made it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

import anyio.to_thread
from sqlite_utils import Database

from mh_batch.store.connection import open_store

P = ParamSpec("P")
T = TypeVar("T")


class StoreThread:
    """Runs store functions on the one thread that owns the connection.

    `anyio.to_thread.run_sync` gives no thread affinity, so an executor with one thread does the
    work and a pooled thread only waits for it. A call that has begun is always finished, even if
    the task that waits for it is cancelled: a commit is never in doubt.
    """

    def __init__(self, path: Path, opener: Callable[[Path], Database] | None = None) -> None:
        """`opener` opens the database on that thread; `None` opens it for writing."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._path = path
        self._opener = opener
        self._db: Database | None = None

    async def __aenter__(self) -> Self:
        opener = self._opener or open_store
        self._db = await self._run(lambda: opener(self._path))
        return self

    async def __aexit__(self, *_: object) -> None:
        db, self._db = self._db, None
        if db is not None:
            await self._run(db.close)
        self._executor.shutdown()

    async def call(
        self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call `function(db, *args, **kwargs)` on the store's thread."""
        db = self._db
        assert db is not None, "the store is not open"
        return await self._run(lambda: function(db, *args, **kwargs))

    async def _run(self, function: Callable[[], T]) -> T:
        future = self._executor.submit(function)
        with anyio.CancelScope(shield=True):
            result = await anyio.to_thread.run_sync(future.result)
        return result
