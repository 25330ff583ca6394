"""How the loop detector does on honest answers that repeat themselves, and on loops."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from corpora.loops import held_back_loops, loops, table
from corpora.loops.corpus import Answer, Stuck, longest_cycle
from mh_batch.engine.decoding.loop_detector import LoopMode
from mh_batch.worker.controller.repetition import repetitive

README = Path(table.__file__).parent / "README.md"
ANSWERS: dict[str, Callable[[], list[Answer]]] = {
    "corpus": table.corpus_answers,
    "held back": table.held_back_answers,
}
LOOPS: dict[str, Callable[[], list[Stuck]]] = {
    "corpus": table.corpus_loops,
    "held back": table.held_back_stuck,
}
CORPORA = pytest.mark.parametrize("corpus", ["corpus", "held back"])
EXACT = {kind.__name__ for kind in loops.EXACT + held_back_loops.EXACT}
COUNTING = {kind.__name__ for kind in loops.COUNTING + held_back_loops.COUNTING}

SWAPPING = {kind.__name__ for kind in loops.SWAPPING + held_back_loops.SWAPPING}


def ended(answers: Iterable[Answer], mode: LoopMode) -> list[Answer]:
    return [answer for answer in answers if table.first_loop(mode, answer.tokens)]


def in_time(found: Sequence[Stuck], mode: LoopMode, most: int) -> list[Stuck]:
    first = [(table.first_loop(mode, stuck.tokens), stuck) for stuck in found]
    return [stuck for loop, stuck in first if loop and loop[0] - stuck.start <= most]


def test_the_corpora_are_large_and_of_many_kinds() -> None:
    answers, loops_ = ANSWERS["corpus"](), LOOPS["corpus"]()
    assert len(answers) >= 200
    assert len({answer.kind for answer in answers}) >= 20
    assert len(loops_) >= 400
    assert len({stuck.kind for stuck in loops_}) >= 12


def test_what_is_held_back_is_of_other_kinds() -> None:
    for corpora in (ANSWERS, LOOPS):
        kinds = [{found.kind for found in corpora[corpus]()} for corpus in corpora]
        assert not kinds[0] & kinds[1]


@pytest.mark.parametrize("corpora", [ANSWERS, LOOPS])
def test_the_same_seed_draws_the_same(corpora: dict[str, Callable[[], Sequence[object]]]) -> None:
    drawn = table.corpus_answers if corpora is ANSWERS else table.corpus_loops
    assert drawn.__wrapped__() == drawn()


@CORPORA
def test_no_honest_answer_is_exactly_periodic_for_more_than_512_tokens(corpus: str) -> None:
    for answer in ANSWERS[corpus]():
        assert longest_cycle(answer.tokens) <= 512


def test_the_longest_cycle_is_counted_in_tokens() -> None:
    assert longest_cycle([*range(50), *([1, 2, 3] * 200), 7]) == 600
    assert longest_cycle([*range(301)] * 4) == longest_cycle([5] * 512) == 0
    assert longest_cycle([5] * 513) == 513


@CORPORA
def test_cheap_ends_at_most_one_honest_answer_in_a_hundred(corpus: str) -> None:
    answers = ANSWERS[corpus]()
    assert len(ended(answers, LoopMode.CHEAP)) <= len(answers) / 100


@CORPORA
def test_full_ends_at_most_two_honest_answers_in_a_hundred(corpus: str) -> None:
    answers = ANSWERS[corpus]()
    assert len(ended(answers, LoopMode.FULL)) <= len(answers) / 50


@CORPORA
def test_at_most_one_honest_answer_in_a_hundred_is_refused_for_its_text(corpus: str) -> None:
    answers = ANSWERS[corpus]()
    assert sum(repetitive(answer.text) for answer in answers) <= len(answers) / 100


@CORPORA
@pytest.mark.parametrize("mode", [LoopMode.CHEAP, LoopMode.FULL])
def test_every_exact_loop_is_found_within_four_times_round_or_512_tokens(
    corpus: str, mode: LoopMode
) -> None:
    exact = [stuck for stuck in LOOPS[corpus]() if stuck.kind in EXACT]
    assert len(exact) > 100
    for stuck in exact:
        count, loop = table.first_loop(mode, stuck.tokens) or (0, None)
        assert loop is not None
        assert count - stuck.start <= max(512, 4 * loop.period)
        assert loop.start <= stuck.start


@CORPORA
def test_full_finds_sentences_with_a_counter_and_paragraphs_with_words_swapped(corpus: str) -> None:
    kinds = defaultdict(list)
    for stuck in LOOPS[corpus]():
        kinds[stuck.kind].append(stuck)
    for goal, names in ((0.9, COUNTING), (0.7, SWAPPING)):
        some = [stuck for kind in kinds.keys() & names for stuck in kinds[kind]]
        assert len(some) >= 24
        assert len(in_time(some, LoopMode.FULL, 2000)) >= goal * len(some)


def test_the_readme_has_the_tables_of_today() -> None:
    assert table.report() in README.read_text("utf-8")
