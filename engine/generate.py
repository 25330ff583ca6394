"""One attempt from request to result, on the thread that loaded the model."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from typing import NamedTuple

import mlx.core as mx
import msgspec
import psutil

from mh_batch.engine.constraint.matcher import CompiledGrammars
from mh_batch.engine.decoding.constrained import decode_constrained
from mh_batch.engine.decoding.decode import Callbacks, Decoded, decode
from mh_batch.engine.fit.fitter import Fitted, Fitter, fit_request
from mh_batch.engine.kv_cache.prefill import Prefill, prefill
from mh_batch.engine.kv_cache.prefix_cache import PrefixCache
from mh_batch.engine.model.load import LoadedModel
from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.jobs.generation import (
    Generation,
    GenerationRequest,
    SlotLimit,
    StopReason,
    Timings,
)
from mh_batch.jobs.settings import EngineOptions

from .attempt import AttemptPlan
from .model import memory
from .selftest.samples import Vocabulary
from .selftest.selftest import Subject, Tested, selftest
from .slots.row_caches import UnusualAttention
from .slots.slot_generator import SlotGenerator
from .slots.support import SlotSupport, examine
from .timings import attempt_timings


class Prepared(NamedTuple):
    """A request and its prompt, rendered ahead."""

    request: GenerationRequest
    fitted: Fitted


class Generator:
    """Runs requests on a loaded model, one at a time or in slots, on the thread that loaded it."""

    def __init__(self, loaded: LoadedModel, options: EngineOptions | None = None) -> None:
        """Take a model loaded on this thread; `None` takes the default options."""
        self._model = loaded.model
        self._adapter = loaded.adapter
        self._fitter = Fitter(loaded.adapter.render)
        adapter = loaded.adapter
        self._grammars = CompiledGrammars(adapter.token_tables, adapter.control_tokens)
        self._context_tokens = loaded.info.context_tokens
        self._process = psutil.Process()
        self._options = options or EngineOptions()
        machine_bytes = psutil.virtual_memory().total
        self._prefixes = PrefixCache(memory.prefix_cache_bytes(self._options, machine_bytes))
        self._prepared: Prepared | None = None
        self._slots: SlotGenerator | None = None
        memory.wire(self._options)

    def generate(
        self,
        request: GenerationRequest,
        cancelled: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> Generation:
        """Run one attempt.

        `cancelled` is called before every chunk of the prompt and at every token; once it returns
        true, the tokens so far come back with `StopReason.CANCELLED`. `progress` is called with the
        number of tokens after each token that does not end the completion. The loop detector, as
        `loop_detection` sets it, ends it with `StopReason.LOOP_DETECTED`. The oldest turns are
        dropped where the context is too small. Raises `PromptTooLong` if the last turn alone leaves
        no room for an answer, and `JobError` if the model's format cannot express the conversation
        or a bias is for a token that the model does not have.
        """
        mx.reset_peak_memory()
        start = time.perf_counter()
        plan = self.plan(request, cancelled)
        render_seconds = time.perf_counter() - start
        decoded, timings = self._complete(plan, plan.callbacks(cancelled, progress))
        timings = msgspec.structs.replace(timings, render_seconds=render_seconds)
        return plan.result(decoded, timings, self._process)

    def slots(self, parallel: int) -> SlotGenerator:
        """Return what runs requests in so many slots: the same one while the number is the same.

        Raises `EnvironmentFault` if the model cannot decode so.
        """
        if self._slots is None or self._slots.count != parallel:
            support = self._supported(parallel)
            machine_bytes = psutil.virtual_memory().total
            weights = memory.weight_bytes(self._model)
            kv_bytes = memory.kv_bytes(self._options, weights, machine_bytes)
            self._slots = SlotGenerator(self._model, self, parallel, support, kv_bytes)
        return self._slots

    def selftest(self, parallel: int, alive: Callable[[], None], *, thorough: bool) -> Tested:
        """Check whether so many slots give the promised results; `alive` is called all the time.

        Raises `EnvironmentFault` if the model cannot decode so.
        """
        support = self._supported(parallel)
        vocabulary = Vocabulary(support.vocabulary, self._adapter.control_tokens)
        subject = Subject(self._model, support, vocabulary, self._context_tokens)
        return selftest(subject, parallel, alive, thorough=thorough)

    def slot_limit(self) -> SlotLimit:
        """Return in how many slots the model can decode, and why not in more."""
        if isinstance(self._examined, str):
            return SlotLimit(1, self._examined)
        most = self._examined.most
        if most is None:
            return SlotLimit()
        return SlotLimit(most, "more rows run on other kernels", unless_tested=True)

    def _supported(self, parallel: int) -> SlotSupport:
        """Return what slots need to know; raises `EnvironmentFault` if there can be only one."""
        found = self._examined
        if isinstance(found, str):
            raise EnvironmentFault(f"this model cannot run in {parallel} slots: {found}")
        return found

    @cached_property
    def _examined(self) -> SlotSupport | str:
        """What slots need to know of the model, or why it cannot decode in several."""
        try:
            return examine(self._model)
        except UnusualAttention as error:
            return str(error)

    def plan(
        self, request: GenerationRequest, cancelled: Callable[[], bool] = lambda: False
    ) -> AttemptPlan:
        """Return a request with its prompt rendered and fitted; raises what `generate` says.

        A response prefill that the form does not allow is left out: the answer is from scratch.
        Token tables take a second and a long schema as much, so both are left out if `cancelled`:
        it is asked again before the first chunk of the prompt.
        """
        fitted = self._take_prepared(request) or self._fit(request)
        grammar = None if cancelled() else self._adapter.grammar(request.prompt)
        if grammar is not None:
            self._grammars.load_tables()
        if grammar is None or cancelled():
            return AttemptPlan(request, fitted, self._adapter, self._context_tokens)
        constraint = self._grammars.begin(grammar, fitted.response_prefill)
        if constraint is None and fitted.response_prefill:
            fitted = self._fit(msgspec.structs.replace(request, forced_final=(), continues=None))
            constraint = self._grammars.begin(grammar)
        return AttemptPlan(request, fitted, self._adapter, self._context_tokens, constraint)

    def prepare(self, request: GenerationRequest) -> None:
        """Render a request that is likely to come next, and compile the grammar of its form.

        On any thread, for it needs no MLX.
        An error of any kind is raised when the request comes: here it would end the process under
        the attempt that is running.
        """
        with suppress(Exception):
            self._prepared = Prepared(request, self._fit(request))
            if (grammar := self._adapter.grammar(request.prompt)) is not None:
                self._grammars.compile(grammar)

    def between_jobs(self) -> bool:
        """Give memory that MLX holds back to the system if it is too much; return whether.

        For the end of a job: within one, MLX uses it again.
        """
        return memory.release(self._options)

    def _take_prepared(self, request: GenerationRequest) -> Fitted | None:
        """Return what `prepare` made of this very request, `None` if it made nothing."""
        prepared = self._prepared
        if prepared is None or prepared.request != request:
            return None
        self._prepared = None
        return prepared.fitted

    def _fit(self, request: GenerationRequest) -> Fitted:
        """Render the prompt, fitted to the context, with the response prefill behind it."""
        forced = partial(self._adapter.forced_final, request.forced_final)
        return fit_request(self._fitter, request, self._context_tokens, forced)

    def reading(self, plan: AttemptPlan) -> Prefill:
        """Return what reads the prompt of an attempt into caches."""
        context, prefixes = plan.request.context, self._prefixes
        return Prefill(self._model, plan.prompt, plan.parts(), context, prefixes)

    def _complete(self, plan: AttemptPlan, callbacks: Callbacks) -> tuple[Decoded, Timings]:
        """Prefill the prompt and decode; return the tokens and the timings."""
        start = time.perf_counter()
        prefilled = prefill(
            self._model,
            plan.prompt,
            plan.parts(),
            plan.request.context,
            self._prefixes,
            callbacks.cancelled,
        )
        seconds = time.perf_counter() - start
        if prefilled.cancelled:
            decoded = Decoded(stop_reason=StopReason.CANCELLED)
        else:
            loop = decode
            if plan.constraint is not None:
                loop = partial(decode_constrained, constraint=plan.constraint)
            caches, last = prefilled.caches, plan.prompt[-1]
            decoded = loop(self._model, caches, last, plan.sampler(), plan.criteria(), callbacks)
        return decoded, attempt_timings(len(plan.prompt), prefilled, decoded, seconds)
