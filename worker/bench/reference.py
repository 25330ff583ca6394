"""The references of the engine: a bare loop, and mlx-lm's own, over the same tokens.

mlx-lm's is `generate_step` without the detokenizer that `stream_generate` adds: it is faster, and
it needs no tokenizer file (the demo model has none).
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import mlx.core as mx
from mlx_lm.generate import generate_step, generation_stream
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from mh_batch.jobs.settings import Context, Sampling

from .rounds import Sample
from .workload import SEED

CHUNK = Context().prefill_step
"""The prefill chunk, in tokens, unless the case says otherwise: the engine's default."""

MLX_LM_CHUNK = 2048
"""mlx-lm's own default."""

# mlx's stubs leave it untyped
queue: Callable[..., None] = mx.async_eval


class Start(NamedTuple):
    """Where a loop begins: caches that hold all of `prompt` but its last `unread` tokens.

    Those are read in chunks of `chunk` tokens.
    """

    caches: list[Any]
    prompt: Any
    unread: int
    chunk: int = CHUNK


Loop = Callable[[Any, Start, Sampling], Iterator[int]]


class Timed(NamedTuple):
    """A run of a loop: tokens a second after the first token, and seconds until the first."""

    speed: float
    first_seconds: float


def unread(model: Any, prompt: Sequence[int], chunk: int = CHUNK) -> Start:
    """Return a start at the prompt's first token."""
    ids = mx.array(list(prompt), dtype=mx.uint32)
    return Start(make_prompt_cache(model), ids, len(prompt), chunk)


def read(model: Any, prompt: Sequence[int]) -> Start:
    """Return a start at the prompt's last token, which may be used several times."""
    start = unread(model, prompt)
    _read(model, start)
    return start._replace(unread=1)


def bare(model: Any, start: Start, sampling: Sampling) -> Iterator[int]:
    """Yield tokens of the shortest pipelined loop there is: call, sample, queue, read."""
    cache = start.caches
    sample = _sampler(sampling)
    _read(model, start)
    token = sample(model(start.prompt[-1:][None], cache=cache)[:, -1])
    queue(token)
    for left in range(sampling.max_tokens - 1, -1, -1):
        ready = token
        if left:
            token = sample(model(ready[None], cache=cache)[:, -1])
            queue(token)
        yield ready.item()


def mlx_lm(model: Any, start: Start, sampling: Sampling) -> Iterator[int]:
    """Yield tokens of mlx-lm's loop, its penalty over `repetition_window` if one is set.

    It queues one step more than it yields tokens of, and so one more than the others.
    """
    before = start.prompt[: start.prompt.size - start.unread]
    penalty = sampling.repetition_penalty
    processors = make_logits_processors(
        repetition_penalty=None if penalty == 1 else penalty,
        repetition_context_size=sampling.repetition_window,
    )
    steps = generate_step(
        start.prompt[before.size :],
        model,
        max_tokens=sampling.max_tokens,
        sampler=_mlx_lm_sampler(sampling),
        logits_processors=[_behind(before, each) for each in processors],
        prompt_cache=start.caches,
        prefill_step_size=start.chunk,
    )
    # a suspended step keeps its stream the default
    with closing(steps):
        for token, _ in steps:
            yield token


def _behind(before: Any, processor: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a processor that also sees the tokens `before`, which the loop did not read.

    mlx-lm joins all tokens at every step. Here most of that is done outside and mlx-lm's own part
    is nearly free, so a step costs as much as after the whole prompt.
    """
    if not before.size:
        return processor
    return lambda tokens, logits: processor(mx.concatenate([before, tokens]), logits)


def timed(loop: Loop, model: Any, start: Start, sampling: Sampling) -> Timed:
    """Run a loop over `sampling.max_tokens` tokens and return its times."""
    mx.random.seed(SEED)
    begin = first = time.perf_counter()
    tokens = loop(model, start, sampling)
    count = 0
    for _ in tokens:
        count += 1
        if count == 1:
            first = time.perf_counter()
    end = time.perf_counter()
    # the step queued ahead must not run into the next measurement; mlx-lm uses its own stream
    mx.synchronize()
    mx.synchronize(generation_stream)
    return Timed((count - 1) / (end - first) if count > 1 else 0.0, first - begin)


def decode_speed(loop: Loop, model: Any, start: Start, sampling: Sampling) -> Sample:
    """Return the tokens a second after the first token; `start` may be used again."""
    fresh = start._replace(caches=copy.deepcopy(start.caches))
    return Sample(timed(loop, model, fresh, sampling).speed)


def prefill_speed(loop: Loop, model: Any, prompt: Sequence[int], chunk: int = CHUNK) -> Sample:
    """Return the prompt's tokens a second, up to the first token in hand."""
    greedy = Sampling(max_tokens=1, temperature=0.0)
    seconds = timed(loop, model, unread(model, prompt, chunk), greedy).first_seconds
    return Sample(len(prompt) / seconds)


def _read(model: Any, start: Start) -> None:
    """Read all of the prompt but its last token."""
    last = start.prompt.size - 1
    for begin in range(start.prompt.size - start.unread, last, start.chunk):
        model(start.prompt[begin : min(begin + start.chunk, last)][None], cache=start.caches)
        mx.eval([entry.state for entry in start.caches])


def _sampler(sampling: Sampling) -> Callable[[Any], Any]:
    temperature = sampling.temperature
    if temperature == 0:
        return lambda logits: mx.argmax(logits, axis=-1)
    if sampling.top_p == 1 and sampling.top_k == 0:
        return lambda logits: mx.random.categorical(logits * (1 / temperature))
    draw = _mlx_lm_sampler(sampling)
    return lambda logits: draw(logits - mx.logsumexp(logits, keepdims=True))


def _mlx_lm_sampler(sampling: Sampling) -> Callable[[Any], Any]:
    sampler: Callable[[Any], Any] = make_sampler(
        temp=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k
    )
    return sampler
