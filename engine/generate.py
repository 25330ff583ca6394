"""One attempt from request to result, on the thread that loaded the model."""

import array
import hashlib
import sys
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
from mh_batch.engine.decoding.stop_sequences import StopTexts
from mh_batch.engine.kv_cache.caches import held, layout, window
from mh_batch.engine.kv_cache.prefill import Prefilled, prefill
from mh_batch.engine.kv_cache.prefix_cache import PrefixCache
from mh_batch.engine.model.load import LoadedModel
from mh_batch.jobs.generation import (
    Generation,
    GenerationRequest,
    Rendered,
    StopReason,
    Timings,
    finish_reason,
)
from mh_batch.jobs.settings import Context, EngineOptions, Sampling

from .completion_reader import Completion, read
from .fit import Fitted, Fitter, Opening, from_scratch, go_on, room_behind
from .model import memory


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

        `cancelled` is asked at every token; once it says yes the tokens so far come back with
        `StopReason.CANCELLED`. `progress` is told the number of tokens after each that ends
        nothing. A loop, as `loop_detection` finds it, ends them with `StopReason.LOOP_DETECTED`.
        Oldest turns go where the context is too small. Raises `PromptTooLong` if the last one alone
        leaves no room for an answer, and `JobError` if the model's format cannot express the
        conversation or a bias is for no token of the model.
        """
        mx.reset_peak_memory()
        start = time.perf_counter()
        fitted = self._take_prepared(request) or self._fit(request)
        render_seconds = time.perf_counter() - start
        sampling = msgspec.structs.replace(request.sampling, max_tokens=fitted.max_tokens)
        watch = Callbacks(cancelled, progress, _loop_watch(sampling, _given(request, fitted)))
        timings, decoded = self._complete(fitted, request, sampling, watch)
        start = time.perf_counter()
        completion = Completion(
            tokens=tuple(decoded.tokens),
            stop_reason=decoded.stop_reason,
            opening=fitted.opening,
            stops=sampling.stops,
            tools=request.prompt.tools,
        )
        parse = read(self._adapter, completion)
        raw = self._adapter.decode(decoded.tokens)
        timings = msgspec.structs.replace(
            timings,
            render_seconds=render_seconds,
            parse_seconds=time.perf_counter() - start,
            **self._memory(),
        )
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
            response_prefill=fitted.opening,
            room=room_behind(fitted, context_limit(request.context, self._context_tokens)),
            rendered=self._rendered(fitted) if request.render else None,
        )

    def prepare(self, request: GenerationRequest) -> None:
        """Render a request that is likely to come next; on any thread, for it needs no MLX.

        What is wrong with it, of whatever kind, shows when it comes: here it would end the process
        under the attempt that is running.
        """
        with suppress(Exception):
            self._prepared = Prepared(request, self._fit(request))

    def _take_prepared(self, request: GenerationRequest) -> Fitted | None:
        """Return what `prepare` made of this very request, `None` if it made nothing."""
        prepared = self._prepared
        if prepared is None or prepared.request != request:
            return None
        self._prepared = None
        return prepared.fitted

    def _fit(self, request: GenerationRequest) -> Fitted:
        """Render the prompt, less what the context does not hold, and what begins the answer."""
        opening = partial(self._adapter.opening, request.forced_final)
        return fit_request(self._fitter, request, self._context_tokens, opening)

    def _rendered(self, fitted: Fitted) -> Rendered:
        """Return the prompt for those who look on."""
        return Rendered(tuple(fitted.tokens), self._adapter.decode(fitted.tokens))

    def between_jobs(self) -> bool:
        """Give memory that MLX holds back to the system if it is too much; return whether.

        For the time between two jobs: within one, MLX uses again what it holds.
        """
        return memory.release(self._options)

    def _complete(
        self, fitted: Fitted, request: GenerationRequest, sampling: Sampling, watch: Callbacks
    ) -> tuple[Timings, Decoded]:
        """Read the prompt and generate; return what the clock and the caches said, and the tokens.

        `prefill_seconds` reaches until the first token is drawn, which reads the prompt's last.
        """
        start, prompt = time.perf_counter(), fitted.tokens
        asked = prompt[: len(prompt) - len(fitted.opening)]
        prefilled = prefill(
            self._model,
            prompt,
            self._adapter.boundaries(fitted.prompt, asked),
            request.context,
            self._prefixes,
            watch.cancelled,
        )
        seconds = time.perf_counter() - start
        if prefilled.cancelled:
            decoded = Decoded(stop_reason=StopReason.CANCELLED)
        else:
            protected, first = self._adapter.control_tokens, len(_given(request, fitted))
            draw = Sampler(sampling, request.seed, prompt, protected, first)
            ends = self._ends(sampling, fitted.opening)
            decoded = decode(self._model, prefilled.caches, prompt[-1], draw, ends, watch)
        timings = _timings(len(prompt), prefilled, decoded, seconds)
        return msgspec.structs.replace(
            timings,
            repetition_window=sampling.repetition_window if penalises(sampling) else None,
            loop_detection_mode=sampling.loop_detection,
        ), decoded

    def _ends(self, sampling: Sampling, opening: tuple[int, ...]) -> StopCriteria:
        """Return what ends a completion with these settings, behind this opening."""
        stop_tokens = self._adapter.stop_tokens
        if not sampling.stops:
            return StopCriteria(sampling.max_tokens, stop_tokens)
        texts = StopTexts(sampling.stops, self._adapter.decode, self._adapter.answer, opening)
        return StopCriteria(sampling.max_tokens, stop_tokens, texts)

    def _memory(self) -> dict[str, int]:
        """Return the memory fields of a timing row, in bytes."""
        return {
            "active_memory_bytes": mx.get_active_memory(),
            "peak_memory_bytes": mx.get_peak_memory(),
            "cache_memory_bytes": mx.get_cache_memory(),
            "process_memory_bytes": self._process.memory_info().rss,
        }


def _given(request: GenerationRequest, fitted: Fitted) -> tuple[int, ...]:
    """Return the tokens of the answer that an earlier attempt has drawn, if this goes on there."""
    return fitted.opening if request.continues is not None else ()


def _loop_watch(sampling: Sampling, given: Sequence[int]) -> Callable[[int], bool] | None:
    """Return what is shown each token and says when they loop; `None` if nobody watches.

    It has seen the tokens that are `given` already, none of which ended anything.
    """
    mode = LoopMode(sampling.loop_detection)
    if mode is LoopMode.OFF:
        return None
    push = LoopDetector(mode).push
    for token in given:
        push(token)
    return lambda token: push(token) is not None


def fit_request(
    fitter: Fitter,
    request: GenerationRequest,
    model_tokens: int | None,
    opening: Opening = from_scratch,
) -> Fitted:
    """Render a request's prompt, less what neither it nor a model of that context holds."""
    limit = context_limit(request.context, model_tokens)
    fitted = fitter.fit(
        request.prompt,
        request.sampling.max_tokens,
        limit,
        request.context.history_tokens,
        opening,
    )
    return fitted if request.continues is None else go_on(fitted, request.continues, limit)


def context_limit(context: Context, model_tokens: int | None) -> int | None:
    """Return how many tokens prompt and completion may have together, `None` for no limit."""
    limits = [n for n in (context.max_context_tokens, model_tokens) if n is not None]
    return min(limits, default=None)


def prompt_sha256(tokens: Sequence[int]) -> str:
    """Return the SHA-256 of token ids as uint32, little-endian."""
    ids = array.array("I", tokens)
    if sys.byteorder == "big":
        ids.byteswap()
    return hashlib.sha256(ids.tobytes()).hexdigest()


def _timings(prompt_tokens: int, prefilled: Prefilled, decoded: Decoded, seconds: float) -> Timings:
    """Return what caches and clock say; `seconds` is how long the caches took to fill."""
    completion_tokens = len(decoded.tokens)
    # the last token of a prompt is read by the first step of the decode
    read = prefilled.done - prefilled.reused + (completion_tokens > 0)
    prefill_seconds = seconds + decoded.first_drawn_seconds
    return Timings(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        prefill_seconds=prefill_seconds,
        first_token_seconds=seconds + decoded.first_token_seconds if completion_tokens else 0.0,
        decode_seconds=decoded.decode_seconds,
        reused_tokens=prefilled.reused,
        prefill_tokens=read,
        prefill_tokens_per_second=_rate(read, prefill_seconds),
        tokens_per_second=_rate(completion_tokens - 1, decoded.decode_seconds),
        kv_len=held(prefilled.caches),
        max_kv_size=window(prefilled.caches),
        kv_layout=layout(prefilled.caches),
    )


def _rate(count: int, seconds: float) -> float | None:
    """Return `count` a second, `None` where nothing was counted or timed."""
    return count / seconds if count > 0 and seconds > 0 else None
