"""Runs several requests on a loaded model, in slots."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import mlx.core as mx
import psutil

from mh_batch.engine.attempt import AttemptPlan
from mh_batch.engine.kv_cache.prefill import Prefill
from mh_batch.jobs.generation import (
    FinishReason,
    Generation,
    GenerationRequest,
    Parse,
    ParserTier,
    StopReason,
    Timings,
)

from .admission import Admission, cache_bytes
from .joint_step import QueuedStep, Slots
from .slot_run import SlotRun
from .support import SlotSupport

NOT_BEGUN = Generation(
    tokens=(),
    raw="",
    finish_reason=FinishReason.CANCELLED,
    stop_reason=StopReason.CANCELLED,
    parse=Parse(0, ParserTier.RAW, well_formed=False, problems=("truncated",), channels=()),
    prompt_tokens=0,
    prompt_sha256="",
    timings=Timings(prompt_tokens=0, completion_tokens=0),
)
"""What comes back of a request that was cancelled before its prompt was read."""


class Answer(NamedTuple):
    """The end of a request: what it generated, or the error that concerns it alone."""

    id: int
    outcome: Generation | Exception


class Prompts(Protocol):
    """Renders prompts, and reads them into caches."""

    def plan(self, request: GenerationRequest, cancelled: Callable[[], bool]) -> AttemptPlan:
        """Return a request with its prompt, without its form if cancelled; raises `JobError`."""

    def reading(self, plan: AttemptPlan) -> Prefill:
        """Return what reads the prompt of an attempt into caches."""


class SlotGenerator:
    """Runs requests side by side, all on the thread that loaded the model.

    The tokens of each depend on the request and the number of slots alone. Prompts are read one
    after the other, in the order of the requests, one chunk between two steps; a prompt that is
    read while all slots are busy is decoded as soon as one is free.
    """

    def __init__(
        self, model: Any, prompts: Prompts, count: int, support: SlotSupport, kv_bytes: int
    ) -> None:
        """Decode in `count` slots; the caches may take `kv_bytes` together."""
        self.count = count
        self._prompts = prompts
        self._support = support
        self._slots = Slots(model, count, len(support.position_bytes))
        self._admission = Admission(kv_bytes)
        self._waiting: deque[SlotRun] = deque()
        self._reading: SlotRun | None = None
        self._ready: deque[SlotRun] = deque()
        self._queued: QueuedStep | None = None
        self._process = psutil.Process()
        self._device_free = 0.0  # when the device ended its last piece of work

    @property
    def busy(self) -> bool:
        """Whether there are requests that are not answered."""
        return bool(self._waiting or self._reading or self._ready or self._slots.runs)

    def add(
        self,
        id: int,
        request: GenerationRequest,
        cancelled: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> None:
        """Take a request; `cancelled` and `progress` are called as `Generator.generate` does."""
        if not self.busy:
            mx.reset_peak_memory()
            self._device_free = time.perf_counter()
        self._waiting.append(SlotRun(id, request, cancelled, progress))

    def step(self) -> list[Answer]:
        """Run one step of the decode and at most one chunk of a prompt; return what ended.

        An error in an answer concerns that request. One that is raised concerns all, and none of
        them is left.
        """
        try:
            return self._step()
        except BaseException:
            self._clear()
            raise

    def withdraw(self, id: int) -> Answer | None:
        """Take back a request; `None` if its prompt is being read already."""
        run = next((run for run in self._waiting if run.key == id), None)
        if run is None:
            return None
        self._waiting.remove(run)
        return Answer(id, NOT_BEGUN)

    def _step(self) -> list[Answer]:
        answers = self._end_early()
        while self._ready and not self._slots.full:
            run = self._ready.popleft()
            run.enter()
            self._slots.enter(run)
        before, self._queued = self._queued, None
        step = self._slots.forward()
        if step is not None and not step.constrained:
            self._queued = self._slots.draw(step)
        if before is not None:
            answers += self._take_tokens(before)
        if not self._slots.runs:
            # it would keep the caches of attempts that have ended
            self._queued = None
        elif step is not None and step.constrained:
            self._queued = self._slots.draw(step)
        return answers + self._read_prompt()

    def _clear(self) -> None:
        """Forget all requests."""
        for run in (*self._waiting, *self._ready, *self._slots.runs):
            self._admission.release(run.key)
        if self._reading is not None:
            self._admission.release(self._reading.key)
        self._waiting.clear()
        self._ready.clear()
        self._reading = self._queued = None
        for run in self._slots.runs:
            self._slots.leave(run)

    def _end_early(self) -> list[Answer]:
        """End the requests that have nothing to decode of those that do not decode yet."""
        answers = []
        begun = [*self._ready, *([self._reading] if self._reading else [])]
        for run in [run for run in begun if run.end_early()]:
            if run is self._reading:
                self._reading = None
            else:
                self._ready.remove(run)
            answers.append(self._answer(run))
        return answers

    def _take_tokens(self, step: QueuedStep) -> list[Answer]:
        """Hand the tokens of a step to their attempts; return the answers of those that end."""
        tokens = step.drawn.tolist()
        seconds = self._device_was_busy()
        going = [(run, token) for run, token in zip(step.runs, tokens, strict=True) if run]
        going = [(run, token) for run, token in going if not run.ended]
        ended = [run for run, token in going if run.take(token, seconds, len(going))]
        for run in ended:
            self._slots.leave(run)
        return [self._answer(run) for run in ended]

    def _read_prompt(self) -> list[Answer]:
        """Read a chunk of the prompt that is next; return the answer if that fails."""
        run = self._reading or next(iter(self._waiting), None)
        if run is None:
            return []
        if not run.planned:
            self._end_step()
        try:
            if self._reading is None and not self._begin(run):
                return []
        except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this request
            self._forget(run)
            return [Answer(run.key, error)]
        if run.cancelled():
            return []  # the next step ends it
        self._end_step()
        try:
            self._read_chunk(run)
        except Exception as error:
            if len(self._admission) > 1:
                # memory may be short because of the others
                raise
            self._forget(run)
            return [Answer(run.key, error)]
        if run.reading.finished:
            self._reading = None
            run.wait()
            self._ready.append(run)
        return []

    def _begin(self, run: SlotRun) -> bool:
        """Begin to read the prompt of the first request that waits, if its caches may be there."""
        if not run.planned:
            began = time.perf_counter()
            try:
                plan = self._prompts.plan(run.request, run.cancelled)
            finally:
                seconds = self._count_stall(began)
            run.prepare(plan, seconds)
            run.sampler.check(self._support.vocabulary)
        if not self._admission.admit(run.key, self._cache_bytes(run.plan)):
            return False
        self._reading = self._waiting.popleft()
        run.begin(self._prompts.reading(run.plan))
        return True

    def _read_chunk(self, run: SlotRun) -> None:
        """Read the next chunk of a prompt, if there is one, and count its time."""
        if run.reading.finished:
            return
        began = time.perf_counter()
        run.reading.step()
        run.read_chunk(self._count_stall(began))

    def _end_step(self) -> None:
        """Wait until the device has done the queued step: what comes is not to be timed with it."""
        if self._queued is not None:
            mx.eval(self._queued.drawn)

    def _count_stall(self, began: float) -> float:
        """Count the time since then, in which no slot decoded, and return it."""
        now = time.perf_counter()
        self._device_free = now if self._queued is None else self._device_free + now - began
        for other in self._slots.runs:
            other.stall(now - began)
        return now - began

    def _cache_bytes(self, plan: AttemptPlan) -> int:
        """Return what the caches of an attempt take at most."""
        positions = len(plan.prompt) + plan.sampling.max_tokens
        return cache_bytes(self._support, plan.request.context.max_kv_size, positions)

    def _device_was_busy(self) -> float:
        """Return the seconds since the device ended its work before, which ends now."""
        before, self._device_free = self._device_free, time.perf_counter()
        return self._device_free - before

    def _answer(self, run: SlotRun) -> Answer:
        """Return the answer of a run that has ended."""
        self._admission.release(run.key)
        try:
            return Answer(run.key, run.plan.result(*run.result(), self._process))
        except Exception as error:  # noqa: BLE001  # as above
            return Answer(run.key, error)

    def _forget(self, run: SlotRun) -> None:
        """Drop a run that failed before it decoded."""
        self._admission.release(run.key)
        if run is self._reading:
            self._reading = None
        else:
            self._waiting.remove(run)
