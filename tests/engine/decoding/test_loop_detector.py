"""Loops: what must be found, by when, and what must never be called one.

How the detector does on two corpora is in `test_loop_corpora.py`.
"""

import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, count, cycle, islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.paths import CORPORA
from mh_batch.engine.decoding.loop_detector import (
    Loop,
    LoopDetector,
    LoopKind,
    LoopMode,
    detected_at_end,
    ending_loop,
)
from mh_batch.engine.harmony.vocabulary import harmony_encoding

HONEST = sorted((CORPORA / "honest").glob("*.txt"))
WATCHING = (LoopMode.CHEAP, LoopMode.FULL)
PHASES = st.integers(0, 64)


def tokens_of(text: str) -> list[int]:
    ids: list[int] = harmony_encoding().encode(text, disallowed_special=())
    return ids


def first_loop(detector: LoopDetector, tokens: Iterable[int]) -> Loop | None:
    """Return the first loop found, `None` for none in 100,000 tokens."""
    return next((loop for token in islice(tokens, 100_000) if (loop := detector.push(token))), None)


def deadline(period: int) -> int:
    return 384 if period == 1 else max(4 * period, 512)


# what must be found ------------------------------------------------------------------------------


@st.composite
def cycles(draw: st.DrawFn) -> list[int]:
    """A cycle of 1 to 300 tokens; out of a small alphabet it repeats tokens and runs inside."""
    alphabet = draw(st.sampled_from([1, 2, 3, 5, 200_000]))
    if draw(st.booleans()):
        runs = draw(st.lists(st.tuples(st.integers(7, 9), st.integers(1, 70)), min_size=1))
        return [token for token, times in runs for _ in range(times)][:300]
    return draw(st.lists(st.integers(7, 6 + alphabet), min_size=1, max_size=300))


@st.composite
def prefixes(draw: st.DrawFn, inner: list[int]) -> list[int]:
    """What comes before a cycle: anything, or something that is nearly that cycle itself."""
    kind = draw(st.sampled_from(["any", "few tokens", "nearly periodic", "other cycle"]))
    if kind == "any":
        return draw(st.lists(st.integers(0, 201_087), max_size=150))
    if kind == "few tokens":
        return draw(st.lists(st.integers(7, 9), max_size=150))
    if kind == "other cycle":
        return draw(cycles()) * draw(st.integers(1, 3))
    copies = inner * draw(st.integers(1, 5))
    copies[draw(st.integers(0, len(copies) - 1))] = draw(st.integers(7, 9))
    return copies[draw(st.integers(0, len(inner))) :]


@settings(max_examples=400, deadline=None)
@given(st.data(), cycles(), st.sampled_from(WATCHING))
def test_any_cycle_is_found_in_four_repetitions_or_512_tokens(
    data: st.DataObject, inner: list[int], mode: LoopMode
) -> None:
    prefix = data.draw(prefixes(inner))
    detector = LoopDetector(mode)
    for token in prefix:  # which may be a loop of its own
        detector.push(token)
    assert first_loop(detector, islice(cycle(inner), max(4 * len(inner), 512)))


@pytest.mark.parametrize("period", [1, 2, 3, 8, 63, 64, 65, 84, 127, 128, 129, 150, 211, 299, 300])
def test_a_cycle_is_found_at_its_last_moment_wherever_it_starts(period: int) -> None:
    prefix = range(1000, 1000 + 65)
    for offset in range(65):
        detector = LoopDetector(LoopMode.CHEAP)
        assert first_loop(detector, prefix[:offset]) is None
        loop = first_loop(detector, cycle(range(period)))
        assert loop == Loop(LoopKind.CYCLE, period, offset, deadline(period))


@pytest.mark.parametrize("period", range(1, 301))
def test_every_period_is_found_and_one_token_less_is_no_loop(period: int) -> None:
    repeated = list(islice(cycle(range(period)), deadline(period)))
    assert first_loop(LoopDetector(LoopMode.CHEAP), repeated)
    after = range(1000, 1100)
    for mode in WATCHING:
        assert first_loop(LoopDetector(mode), chain(repeated[:-1], after)) is None


def test_a_period_of_301_is_nothing_for_cheap() -> None:
    assert first_loop(LoopDetector(LoopMode.CHEAP), cycle(range(301))) is None


@settings(deadline=None)
@given(cycles(), st.lists(st.integers(300_000, 400_000), max_size=200, unique=True))
def test_a_loop_tells_what_to_keep(inner: list[int], prefix: list[int]) -> None:
    tokens = prefix + inner * 512
    loop = first_loop(LoopDetector(LoopMode.CHEAP), tokens)
    assert loop is not None
    assert loop.kind is LoopKind.CYCLE
    assert len(inner) % loop.period == 0
    assert loop.start == len(prefix)
    assert loop.repeats >= 4
    assert tokens[: loop.keep] == prefix + inner[: loop.period]
    end = loop.start + loop.length
    assert tokens[loop.start : end - loop.period] == tokens[loop.start + loop.period : end]


def test_a_run_inside_a_cycle_does_not_hide_it() -> None:
    inner = [5] * 150 + list(range(10, 20))
    loop = first_loop(LoopDetector(LoopMode.CHEAP), cycle(inner))
    assert loop == Loop(LoopKind.CYCLE, 160, 0, 640)


def test_the_highest_and_the_strangest_token_ids_count_as_any_other() -> None:
    inner = [0, 37, 0xD800, 0xDFFF, 0xFFFF, 201_087, 0x10FFFF]
    loop = first_loop(LoopDetector(LoopMode.CHEAP), cycle(inner))
    assert loop == Loop(LoopKind.CYCLE, 7, 0, 512)


# near repetition ---------------------------------------------------------------------------------


def with_a_word_swapped(sentence: list[int], every: int, words: list[int]) -> Iterator[int]:
    """The sentence for ever, with another word in the middle of each `every`-th."""
    another = cycle(words)
    for number in range(1, 2000):
        changed = list(sentence)
        if number % every == 0:
            changed[len(sentence) // 2] = next(another)
        yield from changed


def drifting(sentence: list[int], every: int) -> Iterator[int]:
    """The sentence for ever; each `every`-th time its middle word changes for good."""
    for number in range(1, 2000):
        if number % every == 0:
            sentence = list(sentence)
            sentence[len(sentence) // 2] = 100_000 + number
        yield from sentence


def losing_its_place(sentence: list[int]) -> Iterator[int]:
    """The sentence for ever, with a token too many or too few in each third."""
    chance = random.Random(1)
    for number in range(1, 2000):
        at = chance.randrange(len(sentence))
        if number % 3:
            yield from sentence
        elif number % 2:
            yield from sentence[:at] + sentence[at + 1 :]
        else:
            yield from [*sentence[:at], 90_000 + at, *sentence[at:]]


def alternating(one: list[int], other: list[int]) -> Iterator[int]:
    """Two sentences for ever, in an order that never comes three times in a row (Thue, Morse)."""
    for number in count():
        yield from other if number.bit_count() % 2 else one


SENTENCE = list(range(500, 530))
OTHER_WORDS = list(range(700, 999))
NEARLY: dict[str, Callable[[], Iterator[int]]] = {
    "a word swapped in each third sentence": partial(with_a_word_swapped, SENTENCE, 3, OTHER_WORDS),
    "a word swapped in each fifth short sentence": partial(
        with_a_word_swapped, SENTENCE[:10], 5, OTHER_WORDS
    ),
    "a few words in turn": partial(with_a_word_swapped, SENTENCE[:12], 2, [*range(7, 38)]),
    "a cycle that drifts": partial(drifting, SENTENCE, 3),
    "a long cycle that drifts": partial(drifting, list(range(500, 700)), 2),
    "a cycle that loses its place": partial(losing_its_place, SENTENCE),
    "a page": partial(cycle, range(500, 900)),
    "two sentences in no order": partial(alternating, [*range(10, 40)], [*range(50, 70)]),
}


@pytest.mark.parametrize("name", NEARLY)
def test_full_finds_what_is_nearly_a_cycle(name: str) -> None:
    detector = LoopDetector(LoopMode.FULL)
    loop = first_loop(detector, islice(NEARLY[name](), 2000))
    assert loop is not None
    assert loop.kind is LoopKind.NEAR
    assert 0 <= loop.start < loop.keep < loop.start + loop.length


def test_cheap_leaves_near_repetition_alone() -> None:
    tokens = islice(with_a_word_swapped(SENTENCE, 3, OTHER_WORDS), 20_000)
    assert first_loop(LoopDetector(LoopMode.CHEAP), tokens) is None


def test_full_finds_a_sentence_of_text_with_a_word_swapped_now_and_then() -> None:
    same = "I am sorry, but I cannot open the door while the alarm is on. "
    other = "I am sorry, but I cannot open the {} while the alarm is on. "
    words = ["gate", "safe", "drawer", "window", "hatch", "vault", "box", "shutter", "cellar"]
    tokens = tokens_of("".join(same * 3 + other.format(word) for word in words * 4))
    assert first_loop(LoopDetector(LoopMode.FULL), tokens[:2000])


def test_full_finds_a_sentence_with_a_counter_and_tells_where_it_began() -> None:
    before = tokens_of(HONEST_TEXT)
    lines = "".join(f"Reason {number}: it is good for your health.\n" for number in range(1, 300))
    loop = first_loop(LoopDetector(LoopMode.FULL), [*before, *tokens_of(lines)])
    assert loop is not None
    assert (loop.kind, loop.period) == (LoopKind.NEAR, 11)
    assert 1850 <= loop.length < 2000
    assert abs(loop.start - len(before)) <= 100


def test_full_finds_two_tokens_in_any_order() -> None:
    chance = random.Random(1)
    tokens = (chance.choice((17, 4)) for _ in range(2000))
    loop = first_loop(LoopDetector(LoopMode.FULL), tokens)
    assert loop is not None
    assert loop.kind is LoopKind.LOW_VARIETY
    assert (loop.period, loop.length >= 1850) == (1, True)


def test_a_near_repetition_is_cut_near_its_beginning() -> None:
    honest = tokens_of(HONEST_TEXT)
    loop = first_loop(
        LoopDetector(LoopMode.FULL), chain(honest, with_a_word_swapped(SENTENCE, 3, [1, 2, 3]))
    )
    assert loop is not None
    assert abs(loop.start - len(honest)) <= 8 * len(SENTENCE)


# what must not -----------------------------------------------------------------------------------

HONEST_TEXT = (CORPORA / "honest" / "chorus.txt").read_text()


LIKE_A_LOOP = {"log", "numbered_lines", "numbered_paragraphs", "ping"}
"""More than 1,850 tokens of one sentence with a counter: nothing tells them from loops."""


def test_the_texts_are_there() -> None:
    assert len(HONEST) > 50
    assert {path.stem for path in HONEST} >= LIKE_A_LOOP


@pytest.mark.parametrize("path", HONEST, ids=lambda path: path.stem)
def test_honest_text_is_no_loop(path: Path) -> None:
    tokens = tokens_of(path.read_text())
    modes = [LoopMode.CHEAP] if path.stem in LIKE_A_LOOP else WATCHING
    for mode in modes:
        for offset in range(0, 64, 9):
            assert first_loop(LoopDetector(mode), chain(range(offset), tokens)) is None


@pytest.mark.parametrize("mode", WATCHING)
def test_all_honest_texts_in_a_row_are_no_loop(mode: LoopMode) -> None:
    chosen = [p for p in HONEST if mode is LoopMode.CHEAP or p.stem not in LIKE_A_LOOP]
    tokens = tokens_of("\n".join(path.read_text() for path in chosen))
    assert first_loop(LoopDetector(mode), tokens) is None


@settings(deadline=None)
@given(st.integers(4, 200), st.integers(1, 199), st.sampled_from(WATCHING), PHASES)
def test_lines_that_differ_in_a_counter_are_no_loop_as_long_as_they_may_end(
    width: int, place: int, mode: LoopMode, offset: int
) -> None:
    same = range(500, 500 + width)
    lines = ([*same[:place], 10_000 + number, *same[place:]] for number in range(8000 // width))
    most = 1700 if mode is LoopMode.FULL else 8000
    tokens = chain(range(offset), islice(chain.from_iterable(lines), most))
    assert first_loop(LoopDetector(mode), tokens) is None


@pytest.mark.parametrize("what", ["matrix", "records"])
def test_data_is_no_near_repetition_however_long(what: str) -> None:
    size = 80
    rows = [[int(i == j) for j in range(size)] for i in range(size)]
    people = (f'{{"id": {n}, "name": "user{n * 7}", "score": {n * 13 % 97}}},' for n in range(400))
    tokens = tokens_of(str(rows) if what == "matrix" else "\n".join(people))
    assert len(tokens) > 6000
    assert first_loop(LoopDetector(LoopMode.FULL), tokens) is None


@pytest.mark.parametrize("mode", WATCHING)
@pytest.mark.parametrize("every", [2, 3, 4, 8, 16])
def test_random_text_with_a_token_at_every_nth_place_is_no_loop(every: int, mode: LoopMode) -> None:
    chance = random.Random(every)
    for offset in range(every):
        tokens = [chance.randrange(201_088) for _ in range(3000)]
        tokens[offset::every] = [11] * len(tokens[offset::every])
        assert first_loop(LoopDetector(mode), tokens) is None


@pytest.mark.parametrize("mode", WATCHING)
@pytest.mark.parametrize("alphabet", [3, 4, 8, 100, 201_088])
def test_random_tokens_are_no_loop(alphabet: int, mode: LoopMode) -> None:
    chance = random.Random(alphabet)
    tokens = (chance.randrange(alphabet) for _ in range(20_000))
    assert first_loop(LoopDetector(mode), tokens) is None


@pytest.mark.parametrize("mode", WATCHING)
def test_a_chorus_with_verses_between_is_no_loop(mode: LoopMode) -> None:
    chorus = range(500, 620)
    verses = (range(1000 * n, 1000 * n + 60) for n in range(1, 40))
    tokens = chain.from_iterable(chain(verse, chorus) for verse in verses)
    assert first_loop(LoopDetector(mode), tokens) is None


# how it works ------------------------------------------------------------------------------------


def test_off_says_nothing() -> None:
    assert first_loop(LoopDetector(LoopMode.OFF), [7] * 5000) is None


@settings(deadline=None)
@given(st.lists(st.integers(0, 1), max_size=1000), st.sampled_from(WATCHING))
def test_the_same_tokens_get_the_same_answers(tokens: list[int], mode: LoopMode) -> None:
    one, other = LoopDetector(mode), LoopDetector(mode)
    assert [one.push(token) for token in tokens] == [other.push(token) for token in tokens]


@pytest.mark.parametrize("mode", LoopMode)
@pytest.mark.parametrize("looping", [True, False])
def test_what_a_detector_holds_does_not_grow_with_the_completion(
    mode: LoopMode, looping: bool
) -> None:
    chance = random.Random(1)
    detector = LoopDetector(mode)
    sizes = []
    for _ in range(100):
        for _ in range(512):  # ids that all take as many bytes
            detector.push(100_000 if looping else chance.randrange(70_000, 200_000))
        detector.judge()  # which leaves nothing to be judged, as much as that may be
        sizes.append(len(pickle.dumps(detector)))
    # what is remembered is dropped now and then, and the counters take a byte more
    assert max(sizes[20:]) <= 1.1 * max(sizes[:20])


# ---- the loop that a whole completion ends in


@given(
    st.lists(st.integers(100, 400), max_size=200, unique=True),
    st.lists(st.integers(0, 50), min_size=1, max_size=40, unique=True),
    st.integers(0, 500),
)
def test_a_loop_that_nobody_stopped_is_told_from_where_it_began(
    prefix: list[int], period: list[int], longer: int
) -> None:
    looping = islice(cycle(period), max(4 * len(period), 64) + longer)
    loop = ending_loop([*prefix, *looping])
    assert loop is not None
    assert (loop.kind, loop.period) == (LoopKind.CYCLE, len(period))
    assert loop.keep == len(prefix) + len(period)


def test_what_a_completion_was_stopped_for_is_found_again() -> None:
    tokens = harmony_encoding().encode("First the Rhine. " + "And on and on it goes. " * 100)
    watcher = LoopDetector(LoopMode.CHEAP)
    found = next(i for i, token in enumerate(tokens) if watcher.push(token))
    stopped = tokens[: found + 1]
    again = ending_loop(stopped)
    assert again is not None
    assert again.start + again.length == len(stopped)
    assert again == ending_loop(stopped)


@pytest.mark.parametrize("name", NEARLY)
def test_a_near_repetition_is_found_again_at_the_end_as_it_was_first_found(name: str) -> None:
    tokens = [*range(3000, 3100), *islice(NEARLY[name](), 3000)]
    detector = LoopDetector(LoopMode.FULL)
    first = next(loop for token in tokens if (loop := detector.push(token)))
    assert detected_at_end(tokens) == first
    assert detected_at_end([*tokens, *range(5000, 5300)]) is None


def test_a_few_tokens_behind_a_loop_do_not_hide_it() -> None:
    tokens = [*range(100), *([1, 2, 3] * 60), 7, 8]
    loop = ending_loop(tokens)
    assert loop == Loop(LoopKind.CYCLE, 3, 100, 182)


def test_judging_at_once_changes_nothing_of_what_comes() -> None:
    asked, other = LoopDetector(LoopMode.CHEAP), LoopDetector(LoopMode.CHEAP)
    assert asked.judge() is None
    tokens = [*range(100), *([1, 2, 3] * 200)]
    found = []
    for token in tokens:
        found.append(asked.push(token) or asked.judge())
    assert found.index(first_loop(other, tokens)) == 100 + 511


def test_judging_twice_counts_no_token_twice() -> None:
    chance = random.Random(1)
    detector = LoopDetector(LoopMode.FULL)
    for token in (chance.choice((17, 4)) for _ in range(1700)):
        detector.push(token)
        assert (detector.judge(), detector.judge()) == (None, None)


def test_a_loop_in_the_middle_is_not_at_the_end() -> None:
    tokens = [*range(100), *([1, 2, 3] * 60), *range(200, 260)]
    assert ending_loop(tokens) is None
    assert ending_loop([]) is None
    two = ending_loop([*tokens, *([7, 8] * 60)])
    assert two is not None
    assert (two.start, two.period) == (len(tokens), 2)
