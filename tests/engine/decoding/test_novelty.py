"""For how many tokens hardly anything new has come."""

import random
from collections.abc import Iterable
from itertools import chain, cycle, islice

import pytest

from mh_batch.engine.decoding.novelty import Novelty


def counted(sentence: int, lines: int) -> list[int]:
    """Lines of so many tokens, the middle one a counter."""
    half = sentence // 2
    return [t for n in range(lines) for t in (*range(half), 1000 + n, *range(100, 99 + half))]


def run(tokens: Iterable[int], chunk: int = 50) -> int:
    novelty, left = Novelty(), list(tokens)
    while left:
        novelty.take(left[:chunk])
        left = left[chunk:]
    return novelty.run


def test_a_cycle_brings_nothing_new_after_its_first_time_round() -> None:
    assert 2700 <= run(islice(cycle(range(200)), 3000)) <= 2800


def test_a_sentence_with_a_counter_brings_hardly_anything_new() -> None:
    assert run(counted(8, 200)) >= 1500


def test_a_word_in_twenty_swapped_is_hardly_anything_new() -> None:
    chance = random.Random(1)
    swapped = (chance.choice((t,) * 19 + (900 + n % 97,)) for n, t in enumerate([*range(90)] * 30))
    assert run(swapped) >= 2400


@pytest.mark.parametrize("alphabet", [2, 3, 10, 1000, 200_000])
def test_tokens_by_chance_are_new_or_a_surprise(alphabet: int) -> None:
    chance = random.Random(alphabet)
    assert run(chance.randrange(alphabet) for _ in range(3000)) <= 100


def test_a_sentence_of_new_words_begins_the_count_again() -> None:
    looping = [*range(30)] * 40
    assert run([*looping, *range(5000, 5060), *looping[:300]]) <= 300


def test_a_surprise_now_and_then_does_not() -> None:
    looping = [*range(30)] * 40
    assert run(chain(looping, [7, 5000], looping, [3, 6000], looping)) > 3500


def test_what_has_not_come_for_thousands_of_tokens_is_new_again() -> None:
    chance = random.Random(1)
    between = [chance.randrange(200_000) for _ in range(6000)]
    novelty = Novelty()
    for tokens in ([*range(50)], [*range(50)], *(between[n : n + 50] for n in range(0, 6000, 50))):
        novelty.take(tokens)
    novelty.take([*range(50)])
    assert novelty.run == 0


def test_a_cycle_that_is_known_to_be_one_counts_as_if_it_were_judged() -> None:
    told, judged = Novelty(), Novelty()
    looping = [*range(30)]
    for number in range(40):
        judged.take(looping)
        if number < 10:
            told.take(looping)
        else:
            told.repeat(looping)
    assert told.run == judged.run
    for novelty in (told, judged):
        novelty.take([*range(6000, 6050)])
    assert told.run == judged.run
