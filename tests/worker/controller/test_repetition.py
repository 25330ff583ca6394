"""Repetition that shows in the text alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.made import generation
from helpers.paths import CORPORA
from mh_batch.worker.controller.repetition import repeats, repetitive

HONEST = sorted((CORPORA / "honest").glob("*.txt"))
PARAGRAPH = " ".join(f"The {n}th thing to say about rivers is a long one." for n in range(12))


@pytest.mark.parametrize("path", HONEST, ids=lambda path: path.stem)
def test_honest_repetitive_text_is_no_repetition(path: Path) -> None:
    assert not repetitive(path.read_text("utf-8"))


def test_words_that_come_round_are_repetition_however_they_are_spelled() -> None:
    assert repetitive("I am sure. I am Sure.\n I  am sure. " * 50)


def test_a_paragraph_longer_than_any_loop_of_tokens_may_come_three_times_and_not_four() -> None:
    assert not repetitive("\n\n".join([PARAGRAPH] * 3))
    assert repetitive("\n\n".join([PARAGRAPH] * 4))


def test_repetition_in_the_middle_of_an_answer_counts() -> None:
    assert repetitive(f"Rivers flow. {(PARAGRAPH + ' ') * 5} So much for rivers.")


def test_every_channel_is_looked_at() -> None:
    assert not repeats(generation().parse.channels)
    assert repeats(generation("Fine.", analysis="so on and " * 200).parse.channels)


@given(st.lists(st.sampled_from(["yes", "no", "rivers", "12", "."]), min_size=1, max_size=8))
def test_any_short_phrase_said_over_and_over_is_found(words: list[str]) -> None:
    assert repetitive(" ".join(words * 512))


def test_what_may_be_right_is_left_alone() -> None:
    assert not repetitive("x = [" + "0, " * 250 + "0]")
    assert not repetitive("I will not talk in class.\n" * 70)
    assert not repetitive("\n".join(["Name: ______\nDate: ______\n"] * 40))


def test_the_end_of_a_line_counts_as_a_word() -> None:
    size = 40
    rows = ([str(int(i == j)) for j in range(size)] for i in range(size))
    # without it the 1s of an identity matrix come round every 41 numbers
    assert not repetitive("\n".join(" ".join(row) for row in rows))


@given(st.lists(st.integers(), unique=True, max_size=200))
def test_numbers_that_are_all_different_never_are(numbers: list[int]) -> None:
    assert not repetitive(" ".join(map(str, numbers)))
