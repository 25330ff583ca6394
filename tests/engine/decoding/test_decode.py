"""The loop: what ends it, and what it does not do."""

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import mlx.core as mx
import pytest

from mh_batch.engine.decoding.decode import Callbacks, Decoded, StopCriteria, decode
from mh_batch.engine.decoding.sampling import Sampler
from mh_batch.engine.decoding.stop_sequences import StopSequenceFinder
from mh_batch.jobs.generation import StopReason
from mh_batch.jobs.settings import Sampling


class Counter:
    """A model that says the number after the one it is shown, of 50; counts its steps."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, tokens: Any, cache: list[Any]) -> Any:
        assert cache == []
        self.steps += 1
        return (mx.arange(50)[None, None] == (tokens + 1)[..., None]).astype(mx.float32) * 9


def run(
    model: Any,
    stop_tokens: tuple[int, ...] = (),
    max_tokens: int = 30,
    texts: StopSequenceFinder | None = None,
    **watch: Any,
) -> Decoded:
    asked = {"cancelled": lambda: False, "progress": lambda _: None} | watch
    draw = Sampler(Sampling(temperature=0), 1, [0])
    ends = StopCriteria(max_tokens, frozenset(stop_tokens), texts)
    return decode(model, [], 0, draw, ends, Callbacks(**asked))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_max_tokens_ends_it_and_no_step_is_wasted(count: int) -> None:
    model = Counter()
    out = run(model, max_tokens=count)
    assert (out.tokens, out.stop_reason) == (list(range(1, count + 1)), StopReason.MAX_TOKENS)
    assert model.steps == count


def test_a_stop_token_ends_it_one_step_behind_the_device() -> None:
    model = Counter()
    out = run(model, stop_tokens=(5, 7))
    assert (out.tokens, out.stop_reason) == ([1, 2, 3, 4, 5], StopReason.STOP_TOKEN)
    assert model.steps == 6


def test_a_loop_seen_by_the_observer_ends_it_and_its_tokens_stay() -> None:
    shown: list[int] = []

    def observe(token: int) -> bool:
        shown.append(token)
        return token == 4

    out = run(Counter(), is_loop=observe)
    assert (out.tokens, out.stop_reason) == ([1, 2, 3, 4], StopReason.LOOP_DETECTED)
    assert shown == out.tokens


def test_a_cancel_ends_it_within_a_token_and_progress_counts_every_other() -> None:
    seen: list[int] = []
    out = run(Counter(), cancelled=lambda: len(seen) == 2, progress=seen.append)
    assert (out.tokens, out.stop_reason) == ([1, 2, 3], StopReason.CANCELLED)
    assert seen == [1, 2]


def letters(tokens: Any) -> str:
    return "".join(chr(ord("a") + token) for token in tokens)


@pytest.mark.parametrize("stop", ["c", "bcd", "ef", "zz", "bcdefghij"])
@pytest.mark.parametrize("stop_tokens", [(), (6,), (12,)])
@pytest.mark.parametrize("max_tokens", [1, 3, 6, 14])
def test_a_stop_text_ends_it_with_the_token_that_makes_it_whole(
    stop: str, stop_tokens: tuple[int, ...], max_tokens: int
) -> None:
    free = run(Counter(), stop_tokens, max_tokens)
    text = letters(t for t in free.tokens if t not in stop_tokens)
    out = run(Counter(), stop_tokens, max_tokens, StopSequenceFinder((stop, "#"), letters, letters))
    if stop in text:
        assert letters(out.tokens) == text[: text.index(stop) + len(stop)]
        assert out.stop_reason is StopReason.STOP_SEQUENCE
    else:
        assert (out.tokens, out.stop_reason) == (free.tokens, free.stop_reason)


def test_a_stop_text_is_looked_for_in_the_answer_only() -> None:
    def answer(tokens: Any) -> str | None:
        return letters(tokens)[9:] if len(tokens) > 9 else None

    texts = StopSequenceFinder(("d", "m"), letters, answer)
    assert letters(run(Counter(), texts=texts).tokens) == "bcdefghijklm"


def test_without_stop_sequences_nothing_is_decoded_and_with_them_only_a_tail() -> None:
    lengths: list[int] = []

    def counted(tokens: Any) -> str:
        lengths.append(len(tokens))
        return letters(tokens)

    run(Counter(), max_tokens=40, texts=StopSequenceFinder(("~~",), counted, letters))
    assert len(lengths) == 11
    assert max(lengths) == 7


@pytest.fixture
def numpy_calls() -> Iterator[list[str]]:
    """Collects whatever of NumPy runs, in Python or in C."""
    found: list[str] = []

    def watch(frame: FrameType, event: str, called: Any) -> None:
        module = getattr(called, "__module__", None) or "" if event == "c_call" else ""
        where = frame.f_globals.get("__name__", "") if event == "call" else module
        owner = type(getattr(called, "__self__", None)).__module__ if event == "c_call" else ""
        if "numpy" in (str(where).partition(".")[0], owner.partition(".")[0]):
            found.append(f"{where} {called}")

    sys.setprofile(watch)
    yield found
    sys.setprofile(None)


SETTINGS = [
    {"temperature": 0},
    {},
    {"top_p": 0.9, "min_p": 0.01, "top_k": 20, "xtc_probability": 0.5},
    {"repetition_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1},
    {"logit_bias": {"3": 1.0}},
]


@pytest.mark.parametrize("sampling", SETTINGS)
def test_the_loop_never_touches_numpy(
    sampling: dict[str, Any], numpy_calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "numpy"]:
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    draw = Sampler(Sampling(**sampling), 1, [0])
    watch = Callbacks(lambda: False, lambda _: None, lambda _: False)
    decode(Counter(), [], 0, draw, StopCriteria(12, frozenset()), watch)
    assert numpy_calls == []


def test_the_numpy_watch_sees_numpy(numpy_calls: list[str]) -> None:
    import numpy as np

    np.zeros(3).sum()
    assert numpy_calls
