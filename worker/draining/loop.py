"""The drain loop: moves messages between the queue, the conversations and the model.

It decides nothing about answers (the controller does) and knows no SQL (the store does).
"""

import time

import anyio
import msgspec
from anyio.abc import TaskGroup

from mh_batch.jobs.errors import JobError, ModelCrashed, ModelProcessDied
from mh_batch.jobs.generation import Generation, GenerationRequest, StopReason
from mh_batch.jobs.record import AttemptKey, ClaimedJob, JobEnd
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.clock import now
from mh_batch.worker.controller.conversation import ConversationRun, Finish, Generate, Record
from mh_batch.worker.draining.recorder import Recorder
from mh_batch.worker.draining.reporter import Display, Tally
from mh_batch.worker.model_process.client import Death, ProcessDied
from mh_batch.worker.model_process.metal import MOST_WATCHDOG_DEATHS, WATCHDOG_SECONDS
from mh_batch.worker.model_process.supervisor import ModelSupervisor
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.runtime.job_faults import at_stage
from mh_batch.worker.runtime.stop import AutoResetEvent, EndReason, Stop
from mh_batch.worker.runtime.store_thread import StoreThread
from mh_batch.worker.text.format import format_count

from .probe import Probe
from .scheduler import ClaimedRun, Scheduler, shown

__all__ = ["Drain", "EndReason", "Tally"]

LAST_LINES = 5


class Drain:
    """Takes jobs from the queue, one at a time, until it is empty or a stop is asked for.

    The model never waits for the disk: while it generates, the job after this one is claimed and
    its prompt rendered, and what the last attempt brought is written. At most one write is under
    way, and nothing is told as done before it is on disk.
    """

    def __init__(
        self,
        task: DrainOptions,
        run_id: int,
        store: StoreThread,
        host: ModelSupervisor,
        display: Display,
    ) -> None:
        """Take what to do; `run_id` is the drain's row in `runs`."""
        self.stop = Stop(AutoResetEvent())
        self._task = task
        self._run_id = run_id
        self._store = store
        self._host = host
        self._display = display
        self._writer = Recorder(task, run_id, store, display)
        self._supply = Scheduler(task, run_id, store, host, self._writer, self.stop, display)
        self._process_bytes = 0
        self._current: int | None = None
        self._cancelled: frozenset[int] = frozenset()
        self._watchdog_deaths = 0

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
            if self._writer.failed_in_a_row:
                await self._tell_jobs_from_model()
            ready = await self._supply.next()
            if ready is not None:
                await self._converse(ready, tasks)
                await self._between_jobs()
                continue
            await self._writer.written()
            if self._writer.failed_in_a_row:
                continue
            if self._supply.spent and not self.stop.soon:
                return EndReason.MAX_JOBS
            if not self.stop.soon and not await self._supply.new_work():
                return EndReason.EMPTY
        await self._writer.written()
        if self._writer.failed_in_a_row:
            await self._put_back_failed()
        return self.stop.reason

    async def notice(self) -> None:
        """Take that somebody else wrote to the database: new work, or a request to cancel."""
        self._cancelled = await self._store.call(queue.cancel_requests)
        if self._current in self._cancelled:
            await self._host.cancel()
        self.wake()

    def wake(self) -> None:
        """Have a drain that waits for work look at the queue."""
        self.stop.bell.ring()

    async def _converse(self, ready: ClaimedRun, tasks: TaskGroup) -> None:
        """Play a job to its end, or to the end of a turn if a stop was asked for.

        Whatever goes wrong because of it ends it, and nothing else.
        """
        job, run = ready
        self._current = job.id
        self._writer.begin(job)
        self._supply.claim_ahead(tasks)
        try:
            if isinstance(run, JobError):
                raise run
            await self._play(job, run, tasks)
        except JobError as error:
            await self._writer.fail(job, error)

    async def _play(self, job: ClaimedJob, run: ConversationRun, tasks: TaskGroup) -> None:
        """Do what the run says; raises `JobError` if the job cannot be gone on with."""
        guidance = None
        while not (self.stop.soon and run.between_turns) and not self._writer.has_failed(job):
            with at_stage("next"):
                action = run.next()
            match action:
                case Generate(key, request):
                    if await self._asked_to_cancel(job):
                        return await self._writer.finish(tasks, job, JobEnd(Status.CANCELLED))
                    guidance = request.prompt.guidance
                    if not await self._attempt(job, run, key, shown(request, self._task)):
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

    async def _attempt(
        self, job: ClaimedJob, run: ConversationRun, key: AttemptKey, request: GenerationRequest
    ) -> bool:
        """Run one attempt and feed the job's run; `False` if the job went back to the queue."""
        started_at, began = now(), time.perf_counter()
        try:
            with at_stage("generate"):
                self._display.attempt_started(job, key)
                generation = await self._host.generate(request, self._display.tokens)
        except ProcessDied as error:
            return await self._survive(ClaimedRun(job, run), key, error.death)
        self._watchdog_deaths = 0
        generation = with_queue_seconds(generation, time.perf_counter() - began)
        self._process_bytes = generation.timings.process_memory_bytes
        # one that was cut on request is no attempt
        if generation.stop_reason is not StopReason.CANCELLED:
            with at_stage("decision"):
                run.feed(generation, started_at, now())
        return True

    async def _survive(self, ready: ClaimedRun, key: AttemptKey, death: Death) -> bool:
        """Write down a death of the model process and bring it back.

        Returns `False` if the job went back to the queue. Raises `JobError` after too many deaths
        on one attempt.
        """
        job = ready.job
        self._watchdog_deaths += death.by_watchdog
        forgiven = death.by_watchdog and self._watchdog_deaths <= MOST_WATCHDOG_DEATHS
        await self._writer.record_crash(job, key, death, forgiven=forgiven)
        deaths = await self._store.call(queue.crashes_on, job.id, key)
        told = f"the model process died on {job.custom_id}: {death}"
        if death.by_watchdog:
            await self._supply.pause(told, WATCHDOG_SECONDS)
        else:
            self._display.note(told)
        if forgiven or deaths < self._task.max_crashes:
            return await self._supply.reload(ready)
        told = f"the model process died {format_count(deaths, 'time')} in a row on turn {key.turn}"
        raise ModelCrashed(f"{told}: {death.tell(LAST_LINES)}")

    async def _tell_jobs_from_model(self) -> None:
        """Play a built-in conversation: if it is answered it was the jobs, and the drain goes on.

        If it is not, the jobs are put back; one by one the whole queue would follow. Raises
        `ModelProcessDied` then. They are put back as well if a stop comes before it is known, or
        if the model does not load, which leaves its jobs in the queue.
        """
        await self._writer.written()
        failed = self._writer.failed_in_a_row
        told = f"{format_count(len(failed.jobs), 'job')} in a row"
        self._display.note(f"{told} failed at the model: asking it something simple")
        fault: str | None = "not asked"
        try:
            if await self._supply.have(failed.model):
                fault = await self._ask_something_simple(failed.model)
        except BaseException:
            await self._put_back_failed()
            raise
        if fault is None:
            self._display.note("it answers, so it was the jobs: going on")
            failed.clear()
            return
        await self._put_back_failed()
        if fault == "not asked" or self.stop.soon:
            return
        raise ModelProcessDied(
            f"the model failed on {told}, and on a built-in conversation after them: {fault}; "
            f"the jobs are back in the queue; see {self._task.logs / 'worker.log'}, free memory or "
            "try another model, then run `mh-batch work` again"
        )

    async def _ask_something_simple(self, model: str) -> str | None:
        """Return what is wrong with the model or with all behind it; `None` if nothing is."""
        fault: str | None = "stopped"
        with self.stop.cutting_short():
            fault = await Probe(self._host, self._store, self._task, self._run_id).fault(model)
        return fault

    async def _put_back_failed(self) -> None:
        """Queue the jobs again that failed in a row, for it is not known to be their fault.

        Somebody may have tried one of them again meanwhile: then it failed for good before.
        """
        failed = self._writer.failed_in_a_row
        with anyio.CancelScope(shield=True):
            self.tally.count(Status.FAILED, -await self._store.call(queue.requeue, failed.jobs))
        failed.clear()

    async def _between_jobs(self) -> None:
        """Let memory be given back, and end a model process that has grown too large."""
        self._current = None
        await self._host.settle()
        limit = self._task.recycle_bytes
        if limit is not None and self._process_bytes > limit:
            used = f"{self._process_bytes / 2**30:.1f} GiB"
            self._display.note(f"the model process holds {used}: the next job has a new one")
            self._process_bytes = 0
            await self._host.recycle()


def with_queue_seconds(generation: Generation, wall_seconds: float) -> Generation:
    """Return the generation with the wait outside the model's own work in its timings."""
    t = generation.timings
    busy = t.render_seconds + t.first_token_seconds + t.decode_seconds + t.parse_seconds
    timings = msgspec.structs.replace(t, queue_seconds=max(0.0, wall_seconds - busy))
    return msgspec.structs.replace(generation, timings=timings)
