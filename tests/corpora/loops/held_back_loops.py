"""Loops of other kinds and texts, held back: no number of the detector was set by them."""

from collections.abc import Callable, Iterator
from itertools import count, cycle
from random import Random
from string import ascii_lowercase

from .corpus import tokens_of

Endless = Iterator[int]

OPENINGS = (
    "The short answer is no, and here is why.",
    "Hmm, the file has four columns; the first is a date. I should check the header first.",
    "Liebe Anna, danke für deinen Brief vom Montag.",
    "def main():\n    parser = build_parser()\n    arguments = parser.parse_args()\n",
    "",
)

PARAGRAPHS = (
    "Cork is the bark of an oak that grows around the western Mediterranean. It is peeled off by "
    "hand every nine years, without a single tree being felled, and the bark grows again. A tree "
    "must be twenty-five years old before its first harvest, and only the third one is good "
    "enough for bottles. The rest becomes floors, shoes and walls that keep out the noise.",
    "I need to find out which of the two statements is true. The first says that every even number "
    "above two is the sum of two primes, and nobody has proved it so far. The second says that "
    "there are infinitely many primes, and that has been known since Euclid. So the answer should "
    "be the second one, but let me read the question again to be sure of what it asks.",
    "Members of the library may borrow up to ten books at a time for four weeks. A loan can be "
    "renewed twice unless somebody else has asked for the book. After the last day we charge ten "
    "cents a day for each book that is late, but never more than the price of a new copy. Films "
    "and records are lent for one week only and cannot be renewed.",
    "At the edge of the forest stood a house with a green roof, and in the house lived a hedgehog "
    "who collected buttons. He had round ones and square ones, buttons of horn and of glass, and "
    "one of gold that he had never shown to anybody. One night in November there was a knock at "
    "the door, and outside stood a mouse in a coat that would not close.",
    "The compiler reads the source text and builds a tree from it. Each node of the tree is for "
    "one construct of the language, such as a loop or a call. In the next step names are resolved "
    "and types are checked, so that later steps need not worry about them. Finally the tree is "
    "turned into instructions, and a last pass removes those that have no effect.",
)

SHORT = (
    " Entschuldigung, ich kann dabei nicht helfen.",
    " 我不知道该怎么办。",
    " Done. Next.",
    "\n* None",
    " The cat sat on the mat and looked at the dog.",
    "\n    pass\n",
    " et cetera, et cetera,",
    "\n\nUser: Hello\n\nAssistant: Hello! How can I help you today?",
    " I will now begin. First, I will begin by beginning at the beginning.",
)

COUNTED = (
    "Am {}. Tag ging er wieder zum Hafen und wartete.",
    "El número {} tampoco es la respuesta correcta.",
    "Slide {}: questions and answers.",
    "She wrote letter number {} and never got an answer to it.",
    "<p>Paragraph {} of the text goes here.</p>",
    "With n = {} we get the same contradiction, so we move on to the next value.",
    "Verse {}: oh, the wind and the rain, and the long road home again.",
    "Error in line {}: unexpected end of file while looking for a quote.",
    "Round {} goes to the player with the higher card.",
    "Lemma {} follows from the one before it by the same argument.",
)

SWAPS = (
    "acorn barrel chimney donkey emerald fiddle goblin hazel ivory jigsaw kernel lobster magnet "
    "nettle onion pepper quarrel rocket shovel turnip usher velvet willow yeast zenith gladly "
    "hardly across beyond during except lazy eager hollow purple wooden"
).split()


def stuck_sign(chance: Random) -> Endless:
    return cycle(tokens_of(chance.choice((" ...", "\n", " 0", "の", " the", "!!!!", " ")))[:1])


def short_phrase(chance: Random) -> Endless:
    return cycle(tokens_of(chance.choice(SHORT)))


def some_phrases(chance: Random) -> Endless:
    return cycle(tokens_of("".join(chance.sample(SHORT, chance.randrange(2, 6)))))


def whole_paragraph(chance: Random) -> Endless:
    return cycle(tokens_of(chance.choice(PARAGRAPHS) + "\n\n"))


def several_paragraphs(chance: Random) -> Endless:
    chosen = chance.sample(PARAGRAPHS, chance.randrange(2, 4))
    return cycle(tokens_of("\n\n".join(chosen) + "\n\n")[: chance.randrange(130, 301)])


def table_rows(chance: Random) -> Endless:
    row = "| " + " | ".join(chance.choices(("n/a", "0", "-", "yes"), k=chance.randrange(3, 30)))
    return cycle(tokens_of(row + " |\n")[:300])


def objects(chance: Random) -> Endless:
    keys = chance.sample(SWAPS, chance.randrange(2, 20))
    return cycle(tokens_of("{" + ", ".join(f'"{key}": null' for key in keys) + "},\n")[:300])


def digits(chance: Random) -> Endless:
    return cycle(tokens_of("".join(chance.choices("0123456789", k=3 * chance.randrange(2, 100)))))


def _each(lines: Iterator[str]) -> Endless:
    for line in lines:
        yield from tokens_of(line)


def counting_up(chance: Random) -> Endless:
    text, step = chance.choice(COUNTED), chance.choice((1, 1, 2, 5))
    return _each(f"{text.format(n)}\n" for n in count(chance.choice((1, 2, 990)), step))


def counting_down(chance: Random) -> Endless:
    text = chance.choice(COUNTED)
    return _each(f" {text.format(n)}" for n in count(chance.choice((1000, 2500)), -1))


def counting_in_tenths(chance: Random) -> Endless:
    text = chance.choice(COUNTED)
    return _each(f"{text.format(n / 10)}\n\n" for n in count(chance.choice((1, 25))))


def counting_in_letters(chance: Random) -> Endless:
    text = chance.choice(COUNTED)
    pairs = cycle(a + b for a in ascii_lowercase for b in ascii_lowercase)
    return _each(f"{text.format(pair)}\n" for pair in pairs)


def _changed(words: list[str], chance: Random, others: list[str]) -> str:
    return " ".join(chance.choice(others) if chance.random() < 0.05 else word for word in words)


def swapped_for_others(chance: Random) -> Endless:
    words = chance.choice(PARAGRAPHS).split(" ")
    return _each(_changed(words, chance, SWAPS) + "\n\n" for _ in count())


def swapped_for_its_own(chance: Random) -> Endless:
    words = chance.choice(PARAGRAPHS).split(" ")
    return _each(_changed(words, chance, words) + " " for _ in count())


def two_paragraphs_swapped(chance: Random) -> Endless:
    words = " ".join(chance.sample(PARAGRAPHS, 2)).split(" ")
    return _each(_changed(words, chance, SWAPS) + "\n" for _ in count())


Kinds = tuple[Callable[[Random], Endless], ...]
EXACT: Kinds = (
    stuck_sign, short_phrase, some_phrases, whole_paragraph, several_paragraphs, table_rows,
    objects, digits,
)  # fmt: skip
COUNTING: Kinds = (counting_up, counting_down, counting_in_tenths, counting_in_letters)
SWAPPING: Kinds = (swapped_for_others, swapped_for_its_own, two_paragraphs_swapped)
