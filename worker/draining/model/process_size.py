"""Replaces a model process that has grown too large."""

from mh_batch.jobs.generation import Generation
from mh_batch.worker.draining.context import DrainContext


class ProcessSize:
    """How much memory the model process holds, by its latest answer."""

    def __init__(self, context: DrainContext) -> None:
        self._limit = context.options.recycle_bytes
        self._supervisor = context.supervisor
        self._display = context.display
        self._nbytes = 0

    @property
    def too_large(self) -> bool:
        """Whether it holds more than it may."""
        return self._limit is not None and self._nbytes > self._limit

    def take(self, generation: Generation) -> None:
        """Take note of the memory at the end of an attempt."""
        self._nbytes = generation.timings.process_memory_bytes

    async def replace(self) -> bool:
        """End a process that holds more than it may; return whether it did.

        The next load starts a new one.
        """
        if not self.too_large:
            return False
        used = f"{self._nbytes / 2**30:.1f} GiB"
        self._display.note(f"the model process holds {used}: starting a new one")
        self._nbytes = 0
        await self._supervisor.reset()
        return True
