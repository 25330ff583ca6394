"""How the corpora are drawn: so many of each kind, each with a seed of its own."""

from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from operator import eq
from pathlib import Path
from random import Random
from typing import NamedTuple

from mh_batch.engine.harmony.vocabulary import harmony_encoding

SEED = 11
HONEST_EACH = 6
LOOPS_EACH = 24
LOOP_TOKENS = 2048
LONGEST_PERIOD = 300
LONGEST_CYCLE = 512
HONEST_TEXTS = Path(__file__).parent.parent / "honest"
CLOSINGS = ("", "\n\nThat is all.", "\n\nLet me know if you need it in another format.")


class Answer(NamedTuple):
    """One honest answer: its kind, its text and the ids of that."""

    kind: str
    text: str
    tokens: list[int]


class Stuck(NamedTuple):
    """A completion that ends in a loop: the kind, the ids, and where the loop begins."""

    kind: str
    tokens: list[int]
    start: int


def tokens_of(text: str) -> list[int]:
    """Return the ids of `text` in gpt-oss's vocabulary; it holds no control token."""
    ids: list[int] = harmony_encoding().encode(text, disallowed_special=())
    return ids


def answers(
    kinds: Iterable[Callable[[Random], str]], openings: tuple[str, ...], seed: int = SEED
) -> Iterator[Answer]:
    """Yield honest answers of these kinds, each with a sentence before and perhaps one behind.

    One that is exactly periodic for more than 512 tokens is drawn anew: nothing tells it from a
    loop.
    """
    for kind in kinds:
        for number in range(HONEST_EACH):
            chance = Random(f"{seed} {kind.__name__} {number}")
            drawn = (_answer(kind, chance, openings) for _ in count())
            yield next(answer for answer in drawn if longest_cycle(answer.tokens) <= LONGEST_CYCLE)


def _answer(kind: Callable[[Random], str], chance: Random, openings: tuple[str, ...]) -> Answer:
    text = chance.choice(openings) + "\n\n" + kind(chance) + chance.choice(CLOSINGS)
    return Answer(kind.__name__, text, tokens_of(text))


def kept_texts() -> Iterator[Answer]:
    """Yield the honest texts that are kept as files."""
    for path in sorted(HONEST_TEXTS.glob("*.txt")):
        text = path.read_text("utf-8")
        yield Answer("texts kept as files", text, tokens_of(text))


def stuck(
    kinds: Iterable[Callable[[Random], Iterator[int]]],
    openings: tuple[str, ...],
    seed: int = SEED,
) -> Iterator[Stuck]:
    """Yield completions that begin well and then loop for 2,048 tokens."""
    for kind in kinds:
        for number in range(LOOPS_EACH):
            chance = Random(f"{seed} {kind.__name__} {number}")
            before = tokens_of(chance.choice(openings))
            looping = list(islice(kind(chance), LOOP_TOKENS))
            yield Stuck(kind.__name__, before + looping, len(before))


def longest_cycle(tokens: list[int]) -> int:
    """Return how many tokens in a row are exactly periodic, with a period of at most 300.

    0 where that cannot be more than 512.
    """
    longest = 0
    for period in range(1, LONGEST_PERIOD + 1) if len(tokens) > LONGEST_CYCLE else ():
        same = bytes(map(eq, tokens, tokens[period:]))
        run = max(map(len, same.split(b"\0")), default=0)
        if run >= period:
            longest = max(longest, run + period)
    return longest
