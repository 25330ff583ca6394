"""One attempt from request to result, on the thread that loaded the model."""

import array
import hashlib
import sys
import time
from collections.abc import Callable, Sequence

import mlx.core as mx
import msgspec
import psutil

from mh_batch.jobs.errors import PromptTooLong
from mh_batch.jobs.generation import (
    FinishReason,
    Generation,
    GenerationRequest,
    Parse,
    StopReason,
    Timings,
)
from mh_batch.jobs.settings import Context, Sampling

from .decode import Decoded, Watch, decode
from .load import LoadedModel


class Generator:
    """Runs requests on a loaded model, one at a time, all on the thread that loaded it."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._adapter = loaded.adapter
        self._context_tokens = loaded.info.context_tokens
        self._process = psutil.Process()

    def generate(
        self,
        request: GenerationRequest,
        cancelled: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> Generation:
        """Run one attempt.

        `cancelled` is asked at every token; once it says yes the tokens so far come back with
        `StopReason.CANCELLED`. `progress` is told the number of tokens after each. Raises
        `PromptTooLong` if the prompt leaves no room for an answer, and `JobError` if the model's
        format cannot express the conversation.
        """
        mx.reset_peak_memory()
        start = time.perf_counter()
        prompt = self._adapter.render(request.prompt)
        render_seconds = time.perf_counter() - start
        limit = context_limit(request.context, self._context_tokens)
        sampling = fit(request.sampling, len(prompt), limit)
        decoded = decode(
            self._model,
            prompt,
            sampling,
            request.seed,
            self._adapter.stop_tokens,
            Watch(cancelled, progress),
        )
        start = time.perf_counter()
        parse = self._adapter.parse(decoded.tokens, decoded.stop_reason)
        raw = self._adapter.decode(decoded.tokens)
        timings = msgspec.structs.replace(
            _timings(len(prompt), sampling, decoded),
            render_seconds=render_seconds,
            parse_seconds=time.perf_counter() - start,
            **self._memory(),
        )
        return Generation(
            tokens=tuple(decoded.tokens),
            raw=raw,
            finish_reason=finish_reason(decoded.stop_reason, parse),
            stop_reason=decoded.stop_reason,
            parse=parse,
            prompt_tokens=len(prompt),
            prompt_sha256=prompt_sha256(prompt),
            timings=timings,
        )

    def _memory(self) -> dict[str, int]:
        """Return the memory fields of a timing row, in bytes."""
        return {
            "active_memory_bytes": mx.get_active_memory(),
            "peak_memory_bytes": mx.get_peak_memory(),
            "cache_memory_bytes": mx.get_cache_memory(),
            "process_memory_bytes": self._process.memory_info().rss,
        }


def context_limit(context: Context, model_tokens: int | None) -> int | None:
    """Return how many tokens prompt and completion may have together, `None` for no limit."""
    limits = [n for n in (context.max_context_tokens, model_tokens) if n is not None]
    return min(limits, default=None)


def fit(sampling: Sampling, prompt_tokens: int, limit: int | None) -> Sampling:
    """Return `sampling` with `max_tokens` lowered to what the context still holds.

    Raises `PromptTooLong` if that is not even one token.
    """
    if limit is None:
        return sampling
    room = limit - prompt_tokens
    if room < 1:
        raise PromptTooLong(
            f"the prompt has {prompt_tokens} tokens; with an answer of at least one token it "
            f"exceeds the context of {limit}"
        )
    if room >= sampling.max_tokens:
        return sampling
    return msgspec.structs.replace(sampling, max_tokens=room)


def finish_reason(stop_reason: StopReason, parse: Parse) -> FinishReason:
    """Return why the completion ended, in OpenAI's words."""
    match stop_reason:
        case StopReason.MAX_TOKENS:
            return FinishReason.LENGTH
        case StopReason.CANCELLED:
            return FinishReason.CANCELLED
        case StopReason.STOP_TOKEN:
            called = parse.well_formed and parse.calls
            return FinishReason.TOOL_CALLS if called else FinishReason.STOP


def prompt_sha256(tokens: Sequence[int]) -> str:
    """Return the SHA-256 of token ids as uint32, little-endian."""
    ids = array.array("I", tokens)
    if sys.byteorder == "big":
        ids.byteswap()
    return hashlib.sha256(ids.tobytes()).hexdigest()


def _timings(prompt_tokens: int, sampling: Sampling, decoded: Decoded) -> Timings:
    """Return what the decode itself knows of a timing row."""
    completion_tokens = len(decoded.tokens)
    later_tokens = completion_tokens - 1
    penalised = (
        sampling.repetition_penalty != 1
        or sampling.presence_penalty != 0
        or sampling.frequency_penalty != 0
    )
    return Timings(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        prefill_seconds=decoded.prefill_seconds,
        first_token_seconds=decoded.first_token_seconds,
        decode_seconds=decoded.decode_seconds,
        prefill_tokens=prompt_tokens,
        prefill_tokens_per_second=_rate(prompt_tokens, decoded.prefill_seconds),
        tokens_per_second=_rate(later_tokens, decoded.decode_seconds),
        kv_len=decoded.kv_len,
        kv_layout=decoded.kv_layout,
        repetition_window=sampling.repetition_window if penalised else None,
    )


def _rate(count: int, seconds: float) -> float | None:
    """Return `count` a second, `None` where nothing was counted or timed."""
    return count / seconds if count > 0 and seconds > 0 else None
