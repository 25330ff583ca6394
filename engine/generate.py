"""One attempt from request to result, on the thread that loaded the model."""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import mlx.core as mx
import msgspec
import psutil

from mh_batch.engine.decoding.decode import Callbacks, Decoded, StopCriteria, decode
from mh_batch.engine.decoding.loop_detector import LoopDetector, LoopMode
from mh_batch.engine.decoding.penalties import penalises
from mh_batch.engine.decoding.sampling import Sampler
from mh_batch.engine.decoding.stop_sequences import StopSequenceFinder
from mh_batch.engine.fit.fitter import Fitted, Fitter, context_limit, fit_request, remaining_room
from mh_batch.engine.kv_cache.prefill import prefill
from mh_batch.engine.kv_cache.prefix_cache import PrefixCache
from mh_batch.engine.model.load import LoadedModel
from mh_batch.jobs.generation import (
    Generation,
    GenerationRequest,
    RenderedPrompt,
    StopReason,
    Timings,
    finish_reason,
    pack_tokens,
)
from mh_batch.jobs.settings import EngineOptions, Sampling

from .completion_reader import Completion, read
from .model import memory
from .timings import attempt_timings, memory_use


class Prepared(NamedTuple):
    """A request and its prompt, rendered ahead."""

    request: GenerationRequest
    fitted: Fitted


class Generator:
    """Runs requests on a loaded model, one at a time, all on the thread that loaded it."""

    def __init__(self, loaded: LoadedModel, options: EngineOptions | None = None) -> None:
        """Take a model loaded on this thread; `None` takes the default options."""
        self._model = loaded.model
        self._adapter = loaded.adapter
        self._fitter = Fitter(loaded.adapter.render)
        self._context_tokens = loaded.info.context_tokens
        self._process = psutil.Process()
        self._options = options or EngineOptions()
        machine_bytes = psutil.virtual_memory().total
        self._prefixes = PrefixCache(memory.prefix_cache_bytes(self._options, machine_bytes))
        self._prepared: Prepared | None = None
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
        fitted = self._take_prepared(request) or self._fit(request)
        render_seconds = time.perf_counter() - start
        sampling = msgspec.structs.replace(request.sampling, max_tokens=fitted.max_tokens)
        is_loop = _loop_check(sampling, _continued_tokens(request, fitted))
        callbacks = Callbacks(cancelled, progress, is_loop)
        timings, decoded = self._complete(fitted, request, sampling, callbacks)
        start = time.perf_counter()
        completion = Completion(
            tokens=tuple(decoded.tokens),
            stop_reason=decoded.stop_reason,
            response_prefill=fitted.response_prefill,
            stops=sampling.stops,
            tools=request.prompt.tools,
        )
        parse = read(self._adapter, completion)
        raw = self._adapter.decode(decoded.tokens)
        timings = msgspec.structs.replace(
            timings,
            render_seconds=render_seconds,
            parse_seconds=time.perf_counter() - start,
            **memory_use(self._process),
        )
        limit = context_limit(request.context, self._context_tokens)
        return Generation(
            tokens=completion.tokens,
            raw=raw,
            finish_reason=finish_reason(decoded.stop_reason, parse),
            stop_reason=decoded.stop_reason,
            parse=parse,
            prompt_tokens=len(fitted.tokens),
            prompt_sha256=prompt_sha256(fitted.tokens),
            timings=timings,
            max_tokens=fitted.max_tokens,
            dropped_turns=fitted.dropped_turns,
            response_prefill=fitted.response_prefill,
            room=remaining_room(fitted, limit),
            rendered=self._rendered(fitted) if request.render else None,
        )

    def prepare(self, request: GenerationRequest) -> None:
        """Render a request that is likely to come next; on any thread, for it needs no MLX.

        An error of any kind is raised when the request comes: here it would end the process under
        the attempt that is running.
        """
        with suppress(Exception):
            self._prepared = Prepared(request, self._fit(request))

    def between_jobs(self) -> bool:
        """Give memory that MLX holds back to the system if it is too much; return whether.

        For the time between two jobs: within one, MLX uses it again.
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

    def _rendered(self, fitted: Fitted) -> RenderedPrompt:
        """Return the prompt as ids and as text."""
        return RenderedPrompt(tuple(fitted.tokens), self._adapter.decode(fitted.tokens))

    def _complete(
        self, fitted: Fitted, request: GenerationRequest, sampling: Sampling, callbacks: Callbacks
    ) -> tuple[Timings, Decoded]:
        """Prefill the prompt and decode; return the timings and the tokens."""
        start, prompt = time.perf_counter(), fitted.tokens
        rendered = prompt[: len(prompt) - len(fitted.response_prefill)]
        prefilled = prefill(
            self._model,
            prompt,
            self._adapter.prompt_parts(fitted.prompt, rendered),
            request.context,
            self._prefixes,
            callbacks.cancelled,
        )
        seconds = time.perf_counter() - start
        if prefilled.cancelled:
            decoded = Decoded(stop_reason=StopReason.CANCELLED)
        else:
            first = len(_continued_tokens(request, fitted))
            protected = self._adapter.control_tokens
            sampler = Sampler(sampling, request.seed, prompt, protected, first)
            criteria = self._stop_criteria(sampling, fitted.response_prefill)
            decoded = decode(
                self._model, prefilled.caches, prompt[-1], sampler, criteria, callbacks
            )
        timings = attempt_timings(len(prompt), prefilled, decoded, seconds)
        return msgspec.structs.replace(
            timings,
            repetition_window=sampling.repetition_window if penalises(sampling) else None,
            loop_detection_mode=sampling.loop_detection,
        ), decoded

    def _stop_criteria(self, sampling: Sampling, response_prefill: tuple[int, ...]) -> StopCriteria:
        """Return what ends a completion with these settings, behind this response prefill."""
        adapter = self._adapter
        if not sampling.stops:
            return StopCriteria(sampling.max_tokens, adapter.stop_tokens)
        stops = StopSequenceFinder(sampling.stops, adapter.decode, adapter.answer, response_prefill)
        return StopCriteria(sampling.max_tokens, adapter.stop_tokens, stops)


def _continued_tokens(request: GenerationRequest, fitted: Fitted) -> tuple[int, ...]:
    """Return the tokens that an earlier attempt drew, if this one continues it."""
    return fitted.response_prefill if request.continues is not None else ()


def _loop_check(sampling: Sampling, before: Sequence[int]) -> Callable[[int], bool] | None:
    """Return what takes each token and says whether they loop; `None` if detection is off.

    It has taken the tokens `before` already, none of which ended anything.
    """
    mode = LoopMode(sampling.loop_detection)
    if mode is LoopMode.OFF:
        return None
    push = LoopDetector(mode).push
    for token in before:
        push(token)
    return lambda token: push(token) is not None


def prompt_sha256(tokens: Sequence[int]) -> str:
    """Return the SHA-256 of token ids as uint32, little-endian."""
    return hashlib.sha256(pack_tokens(tokens)).hexdigest()
