"""Periods of strings, against a search that compares character by character."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mh_batch.engine.decoding.cycles import closing_cycle, period_of


def has(text: str, period: int, length: int) -> bool:
    """Whether `text` ends in so many characters of that period."""
    end = text[len(text) - length :] if length <= len(text) else ""
    return bool(end) and all(a == b for a, b in zip(end, end[period:], strict=False))


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A cycle with a few characters changed, left out or put in, of letters or of runs."""
    runs = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 90)), min_size=1, max_size=6)
    unit = draw(st.text("abc", min_size=1, max_size=40) | runs.map(spelled))
    text = (unit * 900)[: draw(st.integers(1, 900))]
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["", "a", "z"])) + text[at + draw(st.booleans()) :]
    return text


def spelled(runs: list[tuple[str, int]]) -> str:
    return "".join(letter * times for letter, times in runs)[:310]


@settings(deadline=None)
@given(texts())
@example("")
@example("a" * 301)
@example("a" * 300)
@example(("a" * 299 + "b") * 2)
@example("a" * 500 + "b" + "a" * 290)
def test_the_shortest_period_of_the_end_is_found(text: str) -> None:
    assert period_of(text) == next((p for p in range(1, 301) if has(text, p, 300 + p)), 0)


@settings(deadline=None, max_examples=50)
@given(texts(), st.integers(1, 100), st.integers(2, 5))
def test_the_longest_cycle_at_the_end_is_found(text: str, least: int, times: int) -> None:
    period, length = closing_cycle(text, least, times)
    if period:
        assert length >= max(least, times * period)
        assert has(text, period, length)
        assert length == len(text) or not has(text, period, length + 1)
    for other in range(1, 301):
        most = max(least, times * other, length + 1)
        assert not has(text, other, most)
