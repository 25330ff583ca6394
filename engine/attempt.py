"""What one attempt needs besides the model, and the result that is made of its tokens."""

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import psutil

from mh_batch.engine.constraint.matcher import Constraint
from mh_batch.engine.decoding.decode import Callbacks, Decoded, StopCriteria
from mh_batch.engine.decoding.loop_detector import LoopDetector, LoopMode
from mh_batch.engine.decoding.penalties import penalises
from mh_batch.engine.decoding.sampling import Sampler
from mh_batch.engine.decoding.stop_sequences import StopSequenceFinder
from mh_batch.engine.fit.fitter import Fitted, context_limit, remaining_room
from mh_batch.engine.kv_cache.chunking import PromptParts
from mh_batch.jobs.generation import (
    Generation,
    GenerationRequest,
    RenderedPrompt,
    Timings,
    finish_reason,
    pack_tokens,
)
from mh_batch.jobs.settings import Sampling

from .adapter import Adapter
from .completion_reader import Completion, read
from .timings import memory_use


class AttemptPlan:
    """A request with its prompt, fitted to the context: what draws its tokens and ends them."""

    def __init__(
        self,
        request: GenerationRequest,
        fitted: Fitted,
        adapter: Adapter,
        context_tokens: int | None,
        constraint: Constraint | None = None,
    ) -> None:
        """Take the model's limit, `None` if it has none, and the form behind the response prefill.

        `constraint` is `None` for a free answer.
        """
        self.request = request
        self.constraint = constraint
        self.prompt = fitted.tokens
        self.sampling = msgspec.structs.replace(request.sampling, max_tokens=fitted.max_tokens)
        self._fitted = fitted
        self._adapter = adapter
        self._limit = context_limit(request.context, context_tokens)
        # the tokens that an earlier attempt drew, if this one continues it
        self._continued = fitted.response_prefill if request.continues is not None else ()

    def parts(self) -> PromptParts:
        """Return where the parts of the prompt end."""
        fitted = self._fitted
        rendered = self.prompt[: len(self.prompt) - len(fitted.response_prefill)]
        return self._adapter.prompt_parts(fitted.prompt, rendered)

    def sampler(self) -> Sampler:
        """Return what draws the tokens."""
        protected, first = self._adapter.control_tokens, len(self._continued)
        return Sampler(self.sampling, self.request.seed, self.prompt, protected, first)

    def criteria(self) -> StopCriteria:
        """Return what ends the completion."""
        adapter, sampling = self._adapter, self.sampling
        if not sampling.stops:
            return StopCriteria(sampling.max_tokens, adapter.stop_tokens)
        prefill = self._fitted.response_prefill
        prompt = self.request.prompt
        answer = partial(adapter.answer, tools=prompt.tools, prompting=prompt.prompting)
        stops = StopSequenceFinder(sampling.stops, adapter.decode, answer, prefill)
        return StopCriteria(sampling.max_tokens, adapter.stop_tokens, stops)

    def callbacks(
        self, cancelled: Callable[[], bool], progress: Callable[[int], None]
    ) -> Callbacks:
        """Return these two beside the loop check that the settings ask for."""
        is_loop = _loop_check(self.sampling, self._continued, self.constraint)
        return Callbacks(cancelled, progress, is_loop)

    def result(self, decoded: Decoded, timings: Timings, process: psutil.Process) -> Generation:
        """Read the completion and return all of the attempt; `process` is this one."""
        start, fitted = time.perf_counter(), self._fitted
        completion = Completion(
            tokens=tuple(decoded.tokens),
            stop_reason=decoded.stop_reason,
            response_prefill=fitted.response_prefill,
            stops=self.sampling.stops,
            tools=self.request.prompt.tools,
            prompting=self.request.prompt.prompting,
        )
        parse = read(self._adapter, completion)
        raw = self._adapter.decode(decoded.tokens)
        penalised = penalises(self.sampling)
        timings = msgspec.structs.replace(
            timings,
            repetition_window=self.sampling.repetition_window if penalised else None,
            loop_detection_mode=self.sampling.loop_detection,
            parallel=self.request.parallel,
            parse_seconds=time.perf_counter() - start,
            **memory_use(process),
        )
        return Generation(
            tokens=completion.tokens,
            raw=raw,
            finish_reason=finish_reason(decoded.stop_reason, parse),
            stop_reason=decoded.stop_reason,
            parse=parse,
            prompt_tokens=len(self.prompt),
            prompt_sha256=prompt_sha256(self.prompt),
            timings=timings,
            max_tokens=fitted.max_tokens,
            dropped_turns=fitted.dropped_turns,
            response_prefill=fitted.response_prefill,
            room=remaining_room(fitted, self._limit),
            rendered=self._rendered() if self.request.render else None,
        )

    def _rendered(self) -> RenderedPrompt:
        """Return the prompt as ids and as text."""
        return RenderedPrompt(tuple(self.prompt), self._adapter.decode(self.prompt))


def _loop_check(
    sampling: Sampling, before: Sequence[int], constraint: Constraint | None
) -> Callable[[int], bool] | None:
    """Return what takes each token and says whether they loop; `None` if detection is off.

    It has taken the tokens `before` already, none of which ended anything. What repeats because the
    form wants it is no loop.
    """
    mode = LoopMode(sampling.loop_detection)
    if mode is LoopMode.OFF:
        return None
    push = LoopDetector(mode).push
    for token in before:
        push(token)
    if constraint is None:
        return lambda token: push(token) is not None
    lets_leave = constraint.lets_leave
    return lambda token: (loop := push(token)) is not None and lets_leave(loop.period)


def prompt_sha256(tokens: Sequence[int]) -> str:
    """Return the SHA-256 of token ids as uint32, little-endian."""
    return hashlib.sha256(pack_tokens(tokens)).hexdigest()
