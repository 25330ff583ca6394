"""Loops that a model falls into, as token ids: exact ones, counted ones, and nearly exact ones."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count, cycle
from random import Random

from .corpus import tokens_of
from .texts import CODE, COUNTED, PARAGRAPHS, RARE_WORDS, SENTENCES, TWICE_COUNTED, WORDS

Endless = Iterator[int]


def _words(chance: Random, amount: int) -> str:
    return "".join(f" {chance.choice(WORDS)}" for _ in range(amount))


def _of_length(chance: Random, shortest: int, longest: int, texts: tuple[str, ...]) -> list[int]:
    """Return texts in a row, cut to a period of `shortest` to `longest` tokens."""
    ids: list[int] = []
    while len(ids) < longest:
        ids += tokens_of(" " + chance.choice(texts))
    return ids[: chance.randrange(shortest, longest + 1)]


def one_token(chance: Random) -> Endless:
    return cycle([chance.choice([chance.randrange(200_000), *tokens_of(_words(chance, 1))])])


def few_tokens(chance: Random) -> Endless:
    return cycle(tokens_of(_words(chance, 8))[: chance.randrange(2, 9)])


def phrase(chance: Random) -> Endless:
    return cycle(_of_length(chance, 9, 32, SENTENCES))


def sentences(chance: Random) -> Endless:
    return cycle(_of_length(chance, 33, 64, SENTENCES))


def paragraph(chance: Random) -> Endless:
    return cycle(_of_length(chance, 65, 128, SENTENCES + PARAGRAPHS))


def long_paragraph(chance: Random) -> Endless:
    return cycle(_of_length(chance, 129, 300, PARAGRAPHS))


def random_cycle(chance: Random) -> Endless:
    alphabet = chance.choice((2, 3, 5, 50, 200_000))
    return cycle([chance.randrange(alphabet) for _ in range(chance.randrange(1, 301))])


def cycle_with_runs(chance: Random) -> Endless:
    runs = ([chance.randrange(1000)] * chance.randrange(1, 60) for _ in range(5))
    return cycle([token for run in runs for token in run])


def code(chance: Random) -> Endless:
    return cycle(tokens_of("".join(chance.choices(CODE, k=chance.randrange(1, 5)))))


def rounds_of_thought(chance: Random) -> Endless:
    chosen = chance.sample(SENTENCES, chance.randrange(2, 6))
    return cycle(tokens_of("".join(f" Wait. {sentence}" for sentence in chosen) + "\n\n"))


def _lines(lines: Iterator[str]) -> Endless:
    for line in lines:
        yield from tokens_of(line)


def _gap(chance: Random) -> str:
    return chance.choice((" ", "\n", "\n\n"))


def counted(chance: Random) -> Endless:
    sentence, gap = chance.choice(COUNTED), _gap(chance)
    numbers = count(chance.choice((1, 1, 1, 17, 100)))
    return _lines(sentence.format(number) + gap for number in numbers)


def counted_twice(chance: Random) -> Endless:
    sentence, gap, step = chance.choice(TWICE_COUNTED), _gap(chance), chance.randrange(1, 4)
    numbers = count(chance.choice((1, 40)))
    return _lines(sentence.format(n, n + step) + gap for n in numbers)


ONES = "one two three four five six seven eight nine".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def counted_in_words(chance: Random) -> Endless:
    sentence, gap = chance.choice(COUNTED), _gap(chance)
    numbers = [*ONES, *(f"{ten}-{one}" for ten in TENS for one in ONES)]
    hundreds = ["", *(f"{one} hundred and " for one in ONES)]
    return _lines(sentence.format(h + n) + gap for h in cycle(hundreds) for n in numbers)


def counted_by_date(chance: Random) -> Endless:
    sentence, gap = chance.choice(COUNTED), _gap(chance)
    return _lines(
        sentence.format(f"{year}-{month:02}-{day:02}") + gap
        for year in count(chance.randrange(1990, 2024))
        for month in range(1, 13)
        for day in range(1, 29)
    )


def _swapped(words: list[str], share: float, chance: Random, others: Sequence[str]) -> list[str]:
    return [chance.choice(others) if chance.random() < share else word for word in words]


def swapping(share: float) -> Callable[[Random], Endless]:
    """Return a kind: a paragraph for ever, each time with another share of its words swapped."""

    def kind(chance: Random) -> Endless:
        words, gap = chance.choice(PARAGRAPHS).split(" "), _gap(chance)
        return _lines(" ".join(_swapped(words, share, chance, WORDS)) + gap for _ in count())

    kind.__name__ = f"paragraph_with_{share:.0%}_swapped".replace("%", "_percent")
    return kind


def swapped_for_rare_words(chance: Random) -> Endless:
    words, gap = chance.choice(PARAGRAPHS).split(" "), _gap(chance)
    return _lines(" ".join(_swapped(words, 0.05, chance, RARE_WORDS)) + gap for _ in count())


def swapped_for_its_words(chance: Random) -> Endless:
    words, gap = chance.choice(PARAGRAPHS).split(" "), _gap(chance)
    return _lines(" ".join(_swapped(words, 0.05, chance, words)) + gap for _ in count())


def drifting(chance: Random) -> Endless:
    words = chance.choice(PARAGRAPHS).split(" ")
    while True:
        words = _swapped(words, 0.03, chance, WORDS)
        yield from tokens_of(" ".join(words) + "\n\n")


def sentences_in_any_order(chance: Random) -> Endless:
    chosen = chance.sample(SENTENCES, chance.randrange(3, 7))
    return _lines(f" {chance.choice(chosen)}" for _ in count())


def losing_its_place(chance: Random) -> Endless:
    ids = _of_length(chance, 30, 120, SENTENCES)
    while True:
        at = chance.randrange(len(ids))
        yield from chance.choice((ids, ids[:at] + ids[at + 1 :], ids[:at] + ids[at // 2 :]))


def exact_page(chance: Random) -> Endless:
    page = "\n\n".join(chance.sample(PARAGRAPHS, len(PARAGRAPHS)))
    return cycle(tokens_of(page)[: chance.randrange(301, 451)])


EXACT = (
    one_token, few_tokens, phrase, sentences, paragraph, long_paragraph, random_cycle,
    cycle_with_runs, code, rounds_of_thought,
)  # fmt: skip
COUNTING = (counted, counted_twice, counted_in_words, counted_by_date)
SWAPPING = (swapping(0.05), swapped_for_rare_words, swapped_for_its_words)
OTHERS = (
    swapping(0.02),
    swapping(0.1),
    drifting,
    sentences_in_any_order,
    losing_its_place,
    exact_page,
)
