"""Loads the models that jobs need, and skips those that cannot be loaded."""

import math
import shlex
import time
from typing import Any

import anyio
import msgspec

from mh_batch.jobs.errors import EnvironmentFault, ModelChanged, ModelNotLoaded, SlotsRefused
from mh_batch.jobs.generation import ModelInfo
from mh_batch.jobs.record import ClaimedJob, SkippedModels
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.worker.draining.context import DrainContext
from mh_batch.worker.draining.in_flight.claimed_run import ClaimedRun
from mh_batch.worker.model_process.metal import WATCHDOG_SECONDS
from mh_batch.worker.model_process.supervisor import LoadDied
from mh_batch.worker.runtime.stop import Stop

from .slots_check import SlotsCheck

RELOAD_PAUSES = (1.0, 5.0, 30.0)

MANY_JOBS = 20
"""With more jobs than that queued, it is worth looking for a faster number of slots."""

RETRY_SECONDS = 60.0
"""How long a waiting worker skips a model that failed before it tries to load it again."""


class ModelLoader:
    """Has the model in memory that a job needs.

    `skipped` are the models whose jobs stay queued, `fault` is why the first of them is skipped.
    """

    def __init__(self, context: DrainContext, stop: Stop) -> None:
        """A load or a pause ends as soon as `stop` says so."""
        self.skipped = SkippedModels()
        self.fault: EnvironmentFault | None = None
        self._context = context
        self._stop = stop
        self._skipped_at = 0.0
        self._slots = SlotsCheck(context)
        self._advised = False

    @property
    def seconds_to_retry(self) -> float:
        """Seconds until skipped jobs are retried; infinity if none are."""
        if self.fault is None:
            return math.inf
        return max(0.0, self._skipped_at + RETRY_SECONDS - time.monotonic())

    def parallel(self, info: ModelInfo) -> int:
        """Return in how many slots a batch that begins now runs on this model."""
        return self._slots.usable(info, self._context.options.parallel)

    def can_run(self, job: ClaimedJob) -> bool:
        """Whether the job's model is not skipped."""
        return not self.skipped.holds(job.batch_id, job.model)

    async def have(self, model: str, claimed: ClaimedRun | None = None) -> bool:
        """Load `model` if it is not in memory; `claimed` is the job that waits for it, if any.

        A load that killed the process, or that a claimed job waits for, is tried a few times: a
        fault of the device often comes back at once. Returns `False` after a request to stop, or
        if the model does not load or has other weights now; its jobs are skipped then. So are those
        of the claimed job's batch where a self-test of its slots fails.
        """
        pauses = iter(RELOAD_PAUSES)
        while not self._stop.soon:
            try:
                with self._stop.interruptible():
                    await self._load(model)
                    if claimed is not None:
                        await self._slots.require(claimed.job.parallel)
                    # the process may have died of a test whose verdict is not to count
                    if self._context.supervisor.loaded == model:
                        return True
            except SlotsRefused as fault:
                assert claimed is not None
                batch = (claimed.job.batch_id, model)
                self.skip(fault, in_batches=self.skipped.in_batches | {batch})
                return False
            except (ModelNotLoaded, ModelChanged) as fault:
                if claimed is not None and isinstance(fault, LoadDied):
                    await self._record_death(claimed, fault)
                retry = may_pass(fault, loaded_before=claimed is not None)
                pause = next(pauses, None) if retry else None
                if pause is None:
                    self.skip(fault, models=self.skipped.models | {model})
                    return False
                if isinstance(fault, LoadDied) and fault.death.by_watchdog:
                    pause = max(pause, WATCHDOG_SECONDS)
                await self._pause(str(fault), pause)
        return False

    async def wait_for_display(self, reason: str) -> None:
        """Wait after a death by the display's watchdog; a request to stop ends the wait."""
        await self._pause(reason, WATCHDOG_SECONDS)

    def skip(self, fault: EnvironmentFault, **skipped: Any) -> None:
        """Leave the jobs that a fault concerns in the queue."""
        self.skipped = msgspec.structs.replace(self.skipped, **skipped)
        self.fault = self.fault or fault
        self._skipped_at = time.monotonic()
        self._context.display.note(f"{fault}; its jobs stay queued")
        fault.noted = True

    def retry_skipped(self) -> None:
        """Skip nothing any more: a model that did not load may be there by now."""
        self.skipped, self.fault = SkippedModels(), None

    async def _pause(self, reason: str, seconds: float) -> None:
        self._context.display.note(f"{reason}; trying again in {seconds:g} s")
        with self._stop.interruptible():
            await anyio.sleep(seconds)

    async def _load(self, model: str) -> None:
        options, run_id, store, supervisor, display = self._context
        if supervisor.loaded == model:
            return
        display.note(f"loading {model}")
        info = await supervisor.load(model)
        await store.call(queue.set_run_model, run_id, info)
        display.note(f"loaded {model} ({info.architecture}, {info.adapter}) on {info.device}")
        for text in defaults_notes(info):
            display.note(text)
        await self._slots.try_more(info, options.parallel)
        if options.parallel == 1 and info.device.startswith("gpu"):
            await self._advise(info)

    async def _advise(self, info: ModelInfo) -> None:
        """Say once, where many jobs wait, that several at once may be faster."""
        waiting = (await self._context.store.call(queue.queue_counts))[Status.QUEUED]
        if self._advised or waiting <= MANY_JOBS:
            return
        self._advised = True
        self._context.display.note(
            "one conversation at a time leaves most of a GPU unused: "
            f"`mh-batch selftest --model {shlex.quote(info.name)}` finds a faster --parallel"
        )

    async def _record_death(self, claimed: ClaimedRun, fault: LoadDied) -> None:
        """Record a death at the attempt that waits for the model; its phase does not count."""
        if (first := claimed.first_request()) is not None:
            crash = fault.death.crash(first.key)
            store, run_id = self._context.store, self._context.run_id
            await store.call(queue.record_crash, claimed.job.id, run_id, crash)


def defaults_notes(info: ModelInfo) -> list[str]:
    """Return what is to be said of the model's own sampling defaults; nothing where it has none."""
    notes = []
    if info.defaults:
        values = ", ".join(f"{name} {value:g}" for name, value in info.defaults.items())
        notes.append(f"settings that are left to it, by its generation_config.json: {values}")
    if info.not_used:
        notes.append(f"of its generation_config.json not used: {'; '.join(info.not_used)}")
    return notes


def may_pass(fault: ModelNotLoaded | ModelChanged, *, loaded_before: bool) -> bool:
    """Whether a model may load at the next try; `loaded_before` says that it did load before."""
    if isinstance(fault, LoadDied):
        return fault.may_pass
    return loaded_before and isinstance(fault, ModelNotLoaded)
