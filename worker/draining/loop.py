"""The drain loop: moves messages between the queue, the conversations and the model.

It decides nothing about answers (the controller does) and knows no SQL (the store does).
"""

import time

import msgspec
from anyio.abc import TaskGroup

from mh_batch.jobs.errors import JobError, ModelCrashed
from mh_batch.jobs.generation import Generation, GenerationRequest, StopReason
from mh_batch.jobs.record import AttemptKey, ClaimedJob, JobEnd
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.clock import now
from mh_batch.worker.controller.conversation import Finish, Generate, Record
from mh_batch.worker.controller.job import JobRun
from mh_batch.worker.model_process.death import Death, ProcessDied, WatchdogDeaths
from mh_batch.worker.runtime.job_faults import at_stage
from mh_batch.worker.runtime.stop import EndReason, Stop
from mh_batch.worker.text.format import format_count

from .claimed_run import ClaimedRun
from .context import DrainContext
from .model_loader import ModelLoader
from .probe import Probe
from .recorder import Recorder
from .reporter import Tally
from .scheduler import Scheduler, with_rendered

LAST_LINES = 5


class Drain:
    """Plays jobs from the queue, one at a time, until it is empty or a stop is requested.

    The model never waits for the disk: while it generates, the next job is claimed, its prompt is
    rendered, and the last attempt is written. At most one write is under way, and a job is
    reported as done only once it is on disk.
    """

    def __init__(self, context: DrainContext) -> None:
        self.stop = Stop()
        self._options, _, self._store, self._supervisor, self._display = context
        self._recorder = Recorder(context)
        self._loader = ModelLoader(context, self._recorder, self.stop)
        self._scheduler = Scheduler(context, self._recorder, self._loader, self.stop)
        self._probe = Probe(context, self._recorder, self._loader, self.stop)
        self._watchdog = WatchdogDeaths()
        self._process_bytes = 0
        self._current: int | None = None
        self._cancelled: frozenset[int] = frozenset()

    @property
    def tally(self) -> Tally:
        """The totals so far."""
        return self._recorder.tally

    async def run(self, tasks: TaskGroup) -> EndReason:
        """Drain the queue; `tasks` runs the work beside the model.

        Raises `EnvironmentFault` if it cannot go on; for a model that does not load, or has other
        weights than a batch began with, only once all other jobs are over. After an error or a
        stop, claimed jobs that are not finished are still `running`: the caller requeues them.
        """
        while not self.stop.soon:
            if self._recorder.failed_in_a_row:
                await self._probe.test_model()
            claimed = await self._scheduler.next()
            if claimed is not None:
                await self._converse(claimed, tasks)
                await self._between_jobs()
                continue
            await self._recorder.written()
            if self._recorder.failed_in_a_row:
                continue
            if self._scheduler.spent and not self.stop.soon:
                return EndReason.MAX_JOBS
            if not self.stop.soon and not await self._scheduler.new_work():
                return EndReason.EMPTY
        await self._recorder.written()
        if self._recorder.failed_in_a_row:
            await self._probe.put_back_failed()
        return self.stop.reason

    async def database_changed(self) -> None:
        """React to another process that wrote: new work, or a request to cancel."""
        self._cancelled = await self._store.call(queue.cancel_requests)
        if self._current in self._cancelled:
            await self._supervisor.cancel()
        self.wake()

    def wake(self) -> None:
        """Let a drain that waits for work look at the queue."""
        self.stop.wakeup.set()

    async def _converse(self, claimed: ClaimedRun, tasks: TaskGroup) -> None:
        """Play a job to its end, or to the end of a turn if a stop was requested.

        An error of the job ends it, and nothing else.
        """
        job, run = claimed
        self._current = job.id
        self._recorder.begin(job)
        self._scheduler.claim_ahead(tasks)
        try:
            if isinstance(run, JobError):
                raise run
            await self._play(job, run, tasks)
        except JobError as error:
            await self._recorder.fail(job, error)

    async def _play(self, job: ClaimedJob, run: JobRun, tasks: TaskGroup) -> None:
        """Do what the run says; raises `JobError` if the job cannot go on."""
        guidance = None
        while not self._recorder.has_failed(job):
            with at_stage("next"):
                action = run.next(begin_turns=not self.stop.soon)
            match action:
                case Generate(key, request):
                    if await self._asked_to_cancel(job):
                        return await self._recorder.finish(tasks, job, JobEnd(Status.CANCELLED))
                    guidance = request.prompt.guidance
                    request = with_rendered(request, self._options)
                    if not await self._attempt(ClaimedRun(job, run), key, request):
                        return None
                case Record() as record:
                    await self._recorder.record(tasks, job, record, guidance)
                    if record.end is not None:
                        return None
                case Finish(end):
                    return await self._recorder.finish(tasks, job, end)
                case None:
                    return None
        return None

    async def _asked_to_cancel(self, job: ClaimedJob) -> bool:
        """Whether the job is to be cancelled.

        The store is asked again first: a known request may be answered and the job queued again.
        """
        if job.id in self._cancelled:
            self._cancelled = await self._store.call(queue.cancel_requests)
        return job.id in self._cancelled

    async def _attempt(
        self, claimed: ClaimedRun, key: AttemptKey, request: GenerationRequest
    ) -> bool:
        """Run one attempt and feed the job's run; `False` if the job went back to the queue."""
        job, run = claimed
        assert isinstance(run, JobRun)
        started_at, began = now(), time.perf_counter()
        try:
            with at_stage("generate"):
                self._display.attempt_started(job, key)
                generation = await self._supervisor.generate(request, self._display.tokens)
        except ProcessDied as error:
            run.withdraw(key.choice)
            return await self._recover(claimed, key, error.death)
        self._watchdog.reset()
        generation = with_queue_seconds(generation, time.perf_counter() - began)
        self._process_bytes = generation.timings.process_memory_bytes
        # a cancelled generation is not an attempt
        if generation.stop_reason is StopReason.CANCELLED:
            run.withdraw(key.choice)
            return True
        with at_stage("decision"):
            run.feed(key.choice, generation, started_at, now())
        return True

    async def _recover(self, claimed: ClaimedRun, key: AttemptKey, death: Death) -> bool:
        """Record a death of the model process and load the model again.

        Returns `False` if the job went back to the queue. Raises `JobError` after too many deaths
        on one attempt.
        """
        job = claimed.job
        forgiven = self._watchdog.excuses(death)
        await self._recorder.record_crash(job, key, death, forgiven=forgiven)
        deaths = await self._store.call(queue.crashes_on, job.id, key)
        died = f"the model process died on {job.custom_id}: {death}"
        if death.by_watchdog:
            await self._loader.wait_for_display(died)
        else:
            self._display.note(died)
        if forgiven or deaths < self._options.max_crashes:
            return await self._scheduler.reload(claimed)
        died = f"the model process died {format_count(deaths, 'time')} in a row on turn {key.turn}"
        raise ModelCrashed(f"{died}: {death.describe(LAST_LINES)}")

    async def _between_jobs(self) -> None:
        """Give memory back, and end a model process that has grown too large."""
        self._current = None
        await self._supervisor.job_done()
        limit = self._options.recycle_bytes
        if limit is not None and self._process_bytes > limit:
            used = f"{self._process_bytes / 2**30:.1f} GiB"
            self._display.note(f"the model process holds {used}: starting a new one")
            self._process_bytes = 0
            await self._supervisor.reset()


def with_queue_seconds(generation: Generation, wall_seconds: float) -> Generation:
    """Return the generation with the time outside the model's own work in its timings."""
    t = generation.timings
    busy = t.render_seconds + t.first_token_seconds + t.decode_seconds + t.parse_seconds
    timings = msgspec.structs.replace(t, queue_seconds=max(0.0, wall_seconds - busy))
    return msgspec.structs.replace(generation, timings=timings)
