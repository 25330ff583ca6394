"""The drain loop: moves messages between the queue, the conversations and the model.

It decides nothing about answers (the controller does) and knows no SQL (the store does).
"""

import math
import time
from typing import Any, NamedTuple

import anyio
import msgspec
from anyio.abc import TaskGroup

from mh_batch.jobs.errors import (
    EnvironmentFault,
    JobError,
    ModelChanged,
    ModelNotLoaded,
    ModelProcessDied,
    NoModel,
)
from mh_batch.jobs.generation import Generation, GenerationRequest, StopReason
from mh_batch.jobs.record import ClaimedJob, Crash, JobEnd, Place, Refused
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.clock import now

from .background import Background
from .conversation import ConversationRun, Finish, Generate, Record
from .display import Display
from .model_client import Death, ProcessDied
from .model_host import LoadDied, ModelHost
from .stop import Bell, EndReason, Stop
from .store_thread import StoreThread
from .task import Work
from .wording import count
from .writer import Tally, Writer

__all__ = ["Drain", "EndReason", "Tally"]

RELOAD_PAUSES = (1.0, 5.0, 30.0)

CURE_SECONDS = 60.0
"""How long a worker that waits leaves a model alone that failed, before it tries it again."""

HOPELESS = 3
"""After how many jobs in a row that the model did not survive it is the model's fault."""

LAST_LINES = 5


class Ready(NamedTuple):
    """A claimed job and the run that plays it."""

    job: ClaimedJob
    run: ConversationRun


class Drain:
    """Takes jobs from the queue, one at a time, until it is empty or a stop is asked for.

    The model never waits for the disk: while it generates, the job after this one is claimed and
    its prompt rendered, and what the last attempt brought is written. At most one write is under
    way, and nothing is told as done before it is on disk.
    """

    def __init__(
        self, task: Work, run_id: int, store: StoreThread, host: ModelHost, display: Display
    ) -> None:
        """Take what to do; `run_id` is the drain's row in `runs`."""
        self._bell = Bell()
        self.stop = Stop(self._bell)
        self._task = task
        self._run_id = run_id
        self._store = store
        self._host = host
        self._display = display
        self._writer = Writer(task, run_id, store, display)
        self._refused = Refused()
        self._fault: EnvironmentFault | None = None
        self._passed_over_at = 0.0
        self._ahead: Background[Ready | None] | None = None
        self._process_bytes = 0
        self._current: int | None = None
        self._cancelled: frozenset[int] = frozenset()
        self._unsurvived: list[int] = []
        self._taken = 0
        self._idle = False

    @property
    def tally(self) -> Tally:
        """What was done so far."""
        return self._writer.tally

    async def run(self, tasks: TaskGroup) -> EndReason:
        """Drain the queue, with `tasks` for what runs beside the model.

        Raises `EnvironmentFault` where it cannot go on; a model that does not load, or is not the
        one a batch began with, only once all other jobs are over. Jobs it had claimed and not
        finished are still `running` then and after a stop: whoever ends the drain puts them back.
        """
        while not self.stop.soon:
            ready = await self._next()
            if ready is not None:
                await self._converse(ready, tasks)
                await self._between_jobs()
                continue
            await self._writer.written()
            if self._spent and not self.stop.soon:
                return EndReason.MAX_JOBS
            if not self.stop.soon and not await self._new_work():
                return EndReason.EMPTY
        await self._writer.written()
        return self.stop.reason

    async def notice(self) -> None:
        """Take that somebody else wrote to the database: new work, or a request to cancel."""
        self._cancelled = await self._store.call(queue.cancel_requests)
        if self._current in self._cancelled:
            await self._host.cancel()
        self.wake()

    def wake(self) -> None:
        """Have a drain that waits for work look at the queue."""
        self._bell.ring()

    @property
    def _spent(self) -> bool:
        """Whether as many jobs were taken as were asked for."""
        return self._task.max_jobs is not None and self._taken >= self._task.max_jobs

    async def _new_work(self) -> bool:
        """Wait until there may be something to do; return at once if that is not wanted.

        That is when somebody wrote to the database, and where jobs were passed over, after
        `CURE_SECONDS`. Raises what kept jobs in the queue if nobody is to wait for its cure, or
        not any longer. Returns `False` when the drain is to end, for it ends with an empty queue.
        """
        if not self._task.watch:
            if self._fault is not None:
                raise self._fault
            return False
        if not self._idle:
            why = "the queue is empty" if self._fault is None else "what is left cannot be done now"
            self._display.note(f"{why}: waiting for new work")
        self._idle = True
        with anyio.move_on_after(self._cure_seconds):
            await self._bell.heard()
        if self.stop.soon:
            if self._fault is not None:
                raise self._fault
            return self.stop.reason is not EndReason.STOPPED
        if self._fault is not None and not self._cure_seconds:
            # what did not load may be there by now
            self._refused, self._fault = Refused(), None
        return True

    @property
    def _cure_seconds(self) -> float:
        """How long what was passed over is left alone still; without end if nothing was."""
        if self._fault is None:
            return math.inf
        return max(0.0, self._passed_over_at + CURE_SECONDS - time.monotonic())

    async def _next(self) -> Ready | None:
        """Return the next job, its model in memory; `None` if there is none to be had."""
        ahead, self._ahead = self._ahead, None
        ready = await ahead.result() if ahead is not None else None
        if ready is not None and await self._bring_back(ready):
            return ready
        while not self.stop.soon and not self._spent:
            model = await self._next_model()
            if model is None:
                return None
            if await self._have(model) and (ready := await self._claim()) is not None:
                return ready
        return None

    async def _next_model(self) -> str | None:
        """Return the model that the next claim needs; `None` when there is nothing to claim."""
        default, loaded = self._task.model, self._host.loaded
        try:
            return await self._store.call(queue.next_model, default, loaded, self._refused)
        except NoModel as fault:
            if not self._task.watch:
                raise
            self._display.note(str(fault))
            return None

    async def _have(self, model: str, ready: Ready | None = None) -> bool:
        """Have `model` in memory, for the claimed job in `ready` if there is one.

        The moment after a fault of the device is the likeliest for another one, so one that took
        the process along, or that a claimed job was promised, is tried a few times. Returns `False`
        if a stop came before it loaded, or if it does not load or has other weights now: then its
        jobs are passed over.
        """
        pauses = iter(RELOAD_PAUSES)
        while True:
            try:
                await self._load(model)
            except (ModelNotLoaded, ModelChanged) as fault:
                if ready is not None and isinstance(fault, LoadDied):
                    await self._record_load_death(ready, fault.death)
                if self.stop.soon:
                    return False
                passing = isinstance(fault, LoadDied if ready is None else ModelNotLoaded)
                pause = next(pauses, None) if passing else None
                if pause is None:
                    self._pass_over(fault, models=self._refused.models | {model})
                    return False
                self._display.note(f"{fault}; trying again in {pause:g} s")
                await anyio.sleep(pause)
            else:
                return True

    async def _load(self, model: str) -> None:
        """Have `model` in memory; tell and record it if it was not."""
        if self._host.loaded == model:
            return
        self._display.note(f"loading {model}")
        info = await self._host.ensure(model)
        await self._store.call(queue.set_run_model, self._run_id, info)
        self._display.note(f"loaded {model} ({info.architecture}, {info.adapter}) on {info.device}")

    async def _bring_back(self, ready: Ready) -> bool:
        """Have the model of a claimed job in memory again, after a death or a fresh start.

        If it does not come the job goes back to the queue, with all others of that model, and
        `False` is returned.
        """
        job = ready.job
        if not self._refused.holds(job.batch_id, job.model) and await self._have(job.model, ready):
            return True
        await self._put_back(job)
        return False

    async def _put_back(self, job: ClaimedJob) -> None:
        """Queue a claimed job again; one that somebody wants ended is cancelled instead."""
        await self._writer.written()
        if await self._store.call(queue.release, job.id) is Status.CANCELLED:
            await self._writer.tell_end(job, JobEnd(Status.CANCELLED))
        else:
            self._taken -= 1

    def _pass_over(self, fault: EnvironmentFault, **refused: Any) -> None:
        """Leave the jobs that a fault concerns in the queue and go on with the others."""
        self._refused = msgspec.structs.replace(self._refused, **refused)
        self._fault = self._fault or fault
        self._passed_over_at = time.monotonic()
        self._display.note(f"{fault}; its jobs stay queued")

    async def _claim(self) -> Ready | None:
        """Take the next job if it is one for the model in memory, and one more is wanted."""
        info = self._host.info
        if info is None or self._spent:
            return None
        try:
            job = await self._store.call(
                queue.claim, self._run_id, info, self._task.model, self._refused
            )
        except ModelChanged as fault:
            changed = {(fault.batch_id, info.name)} if fault.batch_id is not None else set()
            self._pass_over(fault, in_batches=self._refused.in_batches | changed)
            return None
        if job is None:
            return None
        self._taken += 1
        recorded = await self._store.call(queue.recorded, job.id)
        return Ready(job, ConversationRun.resume(job, recorded))

    async def _claim_ahead(self) -> Ready | None:
        """Claim the job after the running one and have its prompt rendered."""
        ready = await self._claim()
        if ready is not None and isinstance(action := ready.run.next(), Generate):
            await self._host.prepare(self._shown(action.request))
        return ready

    def _shown(self, request: GenerationRequest) -> GenerationRequest:
        """Return the request, asking for the rendered prompt where an artifact is made of it."""
        return msgspec.structs.replace(request, render=self._task.artifacts != "off")

    async def _converse(self, ready: Ready, tasks: TaskGroup) -> None:
        """Play a job to its end, or to the end of a turn if a stop was asked for."""
        job, run = ready
        guidance = None
        self._current, self._idle = job.id, False
        self._ahead = Background(tasks, self._claim_ahead)
        while not (self.stop.soon and run.between_turns):
            match run.next():
                case Generate(place, request):
                    if await self._asked_to_cancel(job):
                        return await self._writer.finish(tasks, job, JobEnd(Status.CANCELLED))
                    guidance = request.prompt.guidance
                    if not await self._attempt(ready, place, self._shown(request)):
                        return None
                case Record() as record:
                    await self._writer.record(tasks, job, record, guidance)
                    if record.end is not None:
                        return None
                case Finish(end):
                    return await self._writer.finish(tasks, job, end)
        return None

    async def _asked_to_cancel(self, job: ClaimedJob) -> bool:
        """Whether somebody wants the job ended; a look at the store only if it seems so.

        A request that was noticed may have been answered since, and the job queued again.
        """
        if job.id in self._cancelled:
            self._cancelled = await self._store.call(queue.cancel_requests)
        return job.id in self._cancelled

    async def _attempt(self, ready: Ready, place: Place, request: GenerationRequest) -> bool:
        """Run one attempt and feed the job's run; `False` if the job went back to the queue."""
        job, run = ready
        started_at, began = now(), time.perf_counter()
        self._display.attempt_started(job, place)
        try:
            generation = await self._host.generate(request, self._display.tokens)
        except JobError as error:
            run.fail(error.code, str(error))
            return True
        except ProcessDied as error:
            return await self._survive(ready, place, error.death)
        self._unsurvived.clear()
        generation = with_queue_seconds(generation, time.perf_counter() - began)
        self._process_bytes = generation.timings.process_memory_bytes
        self.tally.tokens += len(generation.tokens)
        # the first token of an answer is the prefill's
        self.tally.decoded_tokens += max(0, len(generation.tokens) - 1)
        self.tally.decode_seconds += generation.timings.decode_seconds
        # one that was cut on request is no attempt
        if generation.stop_reason is not StopReason.CANCELLED:
            run.feed(generation, started_at, now())
        return True

    async def _survive(self, ready: Ready, place: Place, death: Death) -> bool:
        """Write down a death of the model process and bring it back, or give the job up.

        Returns `False` if the job went back to the queue. Raises `ModelProcessDied` once too many
        jobs in a row were given up: then it is not the jobs.
        """
        job, run = ready
        await self._record_crash(job, place, death)
        deaths = await self._store.call(queue.crashes_on, job.id, place)
        self._display.note(f"the model process died on {job.custom_id}: {death}")
        if deaths < self._task.max_crashes:
            return await self._bring_back(ready)
        self._unsurvived.append(job.id)
        if len(self._unsurvived) >= HOPELESS:
            await self._give_up(job, death)
        told = f"the model process died {count(deaths, 'time')} in a row on turn {place.turn}"
        run.fail("model_crashed", f"{told}: {death.tell(LAST_LINES)}")
        return True

    async def _record_crash(self, job: ClaimedJob, place: Place, death: Death) -> None:
        crash = Crash(place, death.phase, death.signal, death.exit_code, death.stderr_tail)
        await self._store.call(queue.record_crash, job.id, self._run_id, crash)

    async def _record_load_death(self, ready: Ready, death: Death) -> None:
        """Write a death down at the attempt that waits for the model; it does not count there."""
        if isinstance(action := ready.run.next(), Generate):
            await self._record_crash(ready.job, action.place, death)

    async def _give_up(self, job: ClaimedJob, death: Death) -> None:
        """Put back the jobs that the model did not survive, and end the drain.

        All but the last of them, `job`, are on record as failed; one by one the whole queue would
        follow. Somebody may have tried one of them again meanwhile: then it failed for good before.
        """
        await self._writer.written()
        failed = frozenset(self._unsurvived) - {job.id}
        self.tally.count(Status.FAILED, -await self._store.call(queue.requeue, failed))
        if not await self._store.call(queue.requeue, (job.id,)):
            await self._writer.tell_end(job, JobEnd(Status.CANCELLED))
        raise ModelProcessDied(
            f"the model process died on {HOPELESS} jobs in a row, so it is not the jobs: {death}; "
            f"they are back in the queue; see {self._task.logs / 'worker.log'}, free memory or try "
            "another model, then run `mh-batch work` again"
        )

    async def _between_jobs(self) -> None:
        """Let memory be given back, and end a model process that has grown too large."""
        self._current = None
        await self._host.settle()
        limit = self._task.recycle_bytes
        if limit is not None and self._process_bytes > limit:
            used = f"{self._process_bytes / 2**30:.1f} GiB"
            self._display.note(f"the model process holds {used}: starting a new one")
            self._process_bytes = 0
            await self._host.recycle()


def with_queue_seconds(generation: Generation, wall_seconds: float) -> Generation:
    """Return the generation with the wait outside the model's own work in its timings."""
    t = generation.timings
    busy = t.render_seconds + t.first_token_seconds + t.decode_seconds + t.parse_seconds
    timings = msgspec.structs.replace(t, queue_seconds=max(0.0, wall_seconds - busy))
    return msgspec.structs.replace(generation, timings=timings)
