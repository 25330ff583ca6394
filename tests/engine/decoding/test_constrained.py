"""The constrained loop draws only what the form allows, whatever else the settings do."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import pytest

from mh_batch.engine.decoding.constrained import decode_constrained, masked
from mh_batch.engine.decoding.decode import Callbacks, StopCriteria, decode
from mh_batch.engine.decoding.sampling import Sampler
from mh_batch.jobs.generation import StopReason
from mh_batch.jobs.settings import Sampling

SIZE = 100
END = 7
QUIET = Callbacks(lambda: False, lambda _: None)


class Wheel:
    """A model that prefers token `3 * previous + 1`, and hardly likes any other."""

    def __call__(self, tokens: Any, cache: list[int]) -> Any:
        cache.append(int(tokens.shape[1]))
        wanted = (3 * tokens + 1) % SIZE
        return mx.where(mx.arange(SIZE)[None, None, :] == wanted[..., None], 30.0, 0.0)


class Only:
    """A form that allows some tokens at each place, and cannot be kept from a place on."""

    def __init__(self, allowed: Sequence[Sequence[int]], fails_at: int | None = None) -> None:
        self._allowed = allowed
        self._fails_at = fails_at
        self.taken: list[int] = []
        self.error = ""
        self._look()

    @property
    def mask(self) -> memoryview:
        allowed = self._allowed[min(len(self.taken), len(self._allowed) - 1)]
        bits = sum(1 << token for token in allowed)
        return memoryview(bits.to_bytes(16, "little")).cast("I")

    def advance(self, token: int) -> bool:
        self.taken.append(token)
        self._look()
        return not self.error

    def _look(self) -> None:
        if len(self.taken) == self._fails_at:
            self.error = "too complex"


def drawn(
    form: Only, sampling: Sampling, criteria: StopCriteria, callbacks: Callbacks = QUIET
) -> tuple[list[int], StopReason]:
    sampler = Sampler(sampling, 5, [1], protected={END})
    out = decode_constrained(Wheel(), [], 1, sampler, criteria, callbacks, form)
    return out.tokens, out.stop_reason


def until(most: int) -> StopCriteria:
    return StopCriteria(most, frozenset({END}))


def test_where_all_is_allowed_the_tokens_are_those_of_the_free_loop() -> None:
    sampling = Sampling(temperature=1.5, top_p=0.9)
    free = decode(Wheel(), [], 1, Sampler(sampling, 5, [1]), until(40), QUIET)
    bound = drawn(Only([range(SIZE)]), sampling, until(40))
    assert bound == (free.tokens, free.stop_reason)


ADVERSE: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "temperature": {"temperature": 1.5},
    "bias": {"logit_bias": {str(token): 100.0 for token in range(0, SIZE, 2)}},
    "bias against all that is allowed": {"logit_bias": {"1": -100.0, "3": -100.0, "5": -100.0}},
    "penalties": {
        "repetition_penalty": 2.0, "presence_penalty": 2.0, "frequency_penalty": 2.0,
        "repetition_window": 8,
    },
    "greedy with penalties": {"temperature": 0, "repetition_penalty": 0.5},
    "xtc": {"xtc_probability": 1.0, "xtc_threshold": 0.01},
    "top_k": {"top_k": 50},
    "top_p": {"top_p": 0.01},
    "min_p": {"min_p": 1.0},
}  # fmt: skip


@pytest.mark.parametrize("adverse", ADVERSE.values(), ids=ADVERSE.keys())
def test_no_setting_lets_a_forbidden_token_be_drawn(adverse: dict[str, Any]) -> None:
    allowed = [[1, 3, 5], [9], [90, 99], range(40, 60), [1, 3, 5]]
    tokens, reason = drawn(Only(allowed), Sampling(**adverse), until(20))
    assert reason is StopReason.MAX_TOKENS
    assert len(tokens) == 20
    assert all(token in allowed[min(place, len(allowed) - 1)] for place, token in enumerate(tokens))


def test_filters_choose_among_what_is_allowed() -> None:
    # the likeliest token of all is forbidden: it counts for nothing
    tokens, _ = drawn(Only([range(1, 4)]), Sampling(top_k=3, min_p=0.9), until(60))
    assert set(tokens) == {1, 2, 3}
    xtc = Sampling(xtc_probability=1.0, xtc_threshold=0.2)
    tokens, _ = drawn(Only([range(1, 4)]), xtc, until(60))
    assert set(tokens) <= {1, 2, 3}


def test_the_end_is_drawn_where_only_the_end_is_allowed() -> None:
    tokens, reason = drawn(Only([[2], [3], [END]]), Sampling(), until(50))
    assert (tokens, reason) == ([2, 3, END], StopReason.STOP_TOKEN)


@pytest.mark.parametrize("fails_at", [0, 1, 4])
def test_nothing_is_drawn_once_the_form_cannot_be_kept(fails_at: int) -> None:
    # what llguidance allows then is the end token
    form = Only([[2]] * fails_at + [[END]], fails_at)
    tokens, reason = drawn(form, Sampling(), until(50))
    assert (tokens, reason) == ([2] * fails_at, StopReason.CONSTRAINT_FAILED)


def test_a_form_that_fails_with_the_last_token_changes_nothing() -> None:
    tokens, reason = drawn(Only([[2]], fails_at=4), Sampling(), until(4))
    assert (tokens, reason) == ([2] * 4, StopReason.MAX_TOKENS)


def test_the_next_step_is_queued_before_the_token_is_read() -> None:
    order: list[str] = []

    class Reporting(Wheel):
        def __call__(self, tokens: Any, cache: list[int]) -> Any:
            order.append("forward")
            return super().__call__(tokens, cache)

    class Watched(Only):
        def advance(self, token: int) -> bool:
            order.append("mask")
            return super().advance(token)

    sampler = Sampler(Sampling(), 5, [1])
    decode_constrained(Reporting(), [], 1, sampler, until(4), QUIET, Watched([[2]]))
    assert order == ["forward", "forward", "mask", "forward", "mask", "forward", "mask"]


def test_a_cancel_and_a_loop_end_it_as_they_end_a_free_answer() -> None:
    seen: list[int] = []
    cancelled = Callbacks(lambda: len(seen) >= 3, seen.append)
    tokens, reason = drawn(Only([[2]]), Sampling(), until(50), cancelled)
    assert (len(tokens), reason) == (4, StopReason.CANCELLED)
    count: Callable[[int], bool] = iter([False, False, True]).__next__  # type: ignore[assignment]
    looping = Callbacks(lambda: False, lambda _: None, lambda _: count())  # type: ignore[call-arg]
    tokens, reason = drawn(Only([[2]]), Sampling(), until(50), looping)
    assert (len(tokens), reason) == (3, StopReason.LOOP_DETECTED)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_a_mask_leaves_what_is_allowed_as_it_is_and_forbids_what_is_beyond_it(dtype: Any) -> None:
    logits = (mx.arange(2 * 70).reshape(2, 70) / 7).astype(dtype)
    words = mx.array([[0xFFFFFFFF, 0b101], [0, 0xFFFFFFFF]], dtype=mx.uint32)
    found = masked(logits, words)
    assert found.dtype == dtype
    allowed = [[*range(32), 32, 34], range(32, 64)]
    for row, ids in enumerate(allowed):
        left = [i for i, value in enumerate(found[row].tolist()) if value != -float("inf")]
        assert left == list(ids)
        assert mx.array_equal(found[row][mx.array(left)], logits[row][mx.array(left)])
