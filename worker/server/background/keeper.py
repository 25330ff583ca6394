"""Cancels and expires batches, and measures the results of those that have ended."""

import anyio
import msgspec

from mh_batch.store.clock import now
from mh_batch.store.connection import data_version
from mh_batch.store.lookup import Target
from mh_batch.store.queue.cancel_retry import cancel
from mh_batch.store.server.endings import expire, forget_reopened, next_ended, to_cancel
from mh_batch.worker.runtime.store_thread import StoreThread
from mh_batch.worker.server.note import note
from mh_batch.worker.server.objects import error_entry
from mh_batch.worker.server.results import Measure
from mh_batch.worker.server.state import ServerState

from .submitter import FAULTS

LOOK_SECONDS = 0.5
"""How often to see whether another process wrote to the database; that reads no table."""

EXPIRY_SECONDS = 10.0
"""How often to look for batches whose time is over."""

_TOO_LATE = [error_entry("batch_expired", "the completion window was over before the validation")]


class Keeper:
    """Brings batches to their end, on a connection of its own."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._late = msgspec.json.encode(_TOO_LATE).decode()

    async def run(self) -> None:
        """Look after the batches until cancelled."""
        async with StoreThread(self._state.options.db) as store:
            seen: int | None = None
            looked = -EXPIRY_SECONDS
            while True:
                try:
                    latest = await store.call(data_version)
                    if latest != seen or anyio.current_time() - looked >= EXPIRY_SECONDS:
                        await self._look(store)
                        seen, looked = latest, anyio.current_time()
                except FAULTS as error:
                    note(f"batches cannot be ended: {error}")
                    await anyio.sleep(EXPIRY_SECONDS)
                with anyio.move_on_after(LOOK_SECONDS):
                    await self._state.changed.wait()
                    seen = None

    async def _look(self, store: StoreThread) -> None:
        await self._end_batches(store)
        while (ended := await store.call(next_ended)) is not None:
            measure = Measure(ended)
            while not await store.call(measure.step):
                await self._end_batches(store)

    async def _end_batches(self, store: StoreThread) -> None:
        """Cancel the jobs of batches that were cancelled or have expired."""
        await store.call(forget_reopened)
        await store.call(expire, now(), self._late)
        for batch_id in await store.call(to_cancel):
            await store.call(cancel, Target(batch_id, None, f"batch {batch_id}"))
