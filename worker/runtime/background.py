"""A call that runs while the other tasks of its task group continue."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


class Background(Generic[T]):
    """Runs a call in a task group and keeps its result.

    An error is raised by `result`, not in the group: there it would cancel all tasks and arrive as
    an exception group.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        call: Callable[[], Awaitable[T]],
        when_done: Callable[[], None] | None = None,
    ) -> None:
        """`when_done` is called at the end of the call; `None` calls nothing."""
        self._done = anyio.Event()
        self._when_done = when_done
        self._value: T | None = None
        self._error: Exception | None = None
        tasks.start_soon(self._run, call)

    @property
    def done(self) -> bool:
        """Whether `result` returns at once."""
        return self._done.is_set()

    async def result(self) -> T:
        """Wait for the call and return its result, or raise its error."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set, since there was no error

    async def _run(self, call: Callable[[], Awaitable[T]]) -> None:
        try:
            self._value = await call()
        except Exception as error:  # noqa: BLE001  # kept, and raised by result()
            self._error = error
        finally:
            self._done.set()
            if self._when_done is not None:
                self._when_done()
