"""Answers of a given length that are cut at a given place, as `token_child.py` reads them."""

from collections.abc import Callable
from itertools import count
from random import Random
from typing import NamedTuple

from mh_batch.engine.harmony.special_tokens import is_text, is_utf8
from mh_batch.engine.harmony.vocabulary import harmony_encoding

# each a single token behind a space
WORDS = (
    *("river", "stone", "garden", "window", "market", "bridge", "letter", "candle"),
    *("winter", "forest", "table", "silver"),
)
CLIMBER = "🧗🏽"
START = "<|channel|>analysis<|message|>"
FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"
CALL = (
    "<|end|><|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>"
    '{"a": "'
)


class Answer(NamedTuple):
    """A completion that ends by itself: its tokens, and how they are spelled."""

    text: str
    tokens: tuple[int, ...]


def encode(text: str) -> tuple[int, ...]:
    """The ids of a text in which control tokens are spelled out."""
    return tuple(harmony_encoding().encode(text, allowed_special="all"))


def words(number: int, seed: int) -> str:
    """So many words that do not come round."""
    random = Random(seed)
    return "".join(f" {random.choice(WORDS)}" for _ in range(number))


def in_analysis(before: int, after: int) -> str:
    """Long thoughts, and a short answer."""
    return f"{START}so{words(before + after, 1)}{FINAL}Fine.<|return|>"


def in_text(before: int, after: int) -> str:
    """A thought, and a long answer."""
    return f"{START}so{FINAL}Well{words(before + after, 2)}<|return|>"


def in_header(before: int, after: int) -> str:
    """Thoughts that end right there, and an answer."""
    return f"{START}so{words(before, 3)}{FINAL}Well{words(after, 4)}<|return|>"


def in_character(before: int, after: int) -> str:
    """An answer with a character of many bytes there."""
    return f"{START}so{FINAL}Well{words(before, 5)} {CLIMBER}{words(after, 6)}<|return|>"


def in_call(before: int, after: int) -> str:
    """A call with long arguments."""
    return f'{START}so{CALL}b{words(before + after, 7)}"}}<|call|>'


def is_cut_in_a_header(first: tuple[int, ...]) -> bool:
    """Whether a cut completion ends behind a channel's name and before the text."""
    end = encode("<|start|>assistant<|channel|>final")
    return first[-len(end) :] == end


def is_cut_in_a_character(first: tuple[int, ...]) -> bool:
    """Whether a cut completion ends in bytes that are no whole character."""
    return not is_utf8([token for token in first if is_text(token)])


PLACES: dict[str, Callable[[int, int], str]] = {
    "analysis": in_analysis,
    "text": in_text,
    "header": in_header,
    "character": in_character,
    "call": in_call,
}
EXACT = {"header": is_cut_in_a_header, "character": is_cut_in_a_character}


def answer(place: str, max_tokens: int, length: int) -> Answer:
    """An answer of `length` tokens that `max_tokens` cut at this place."""
    for before in count():
        begun = encode(PLACES[place](before, length))[:max_tokens]
        if place not in EXACT or EXACT[place](begun):
            break
    shortest = len(encode(PLACES[place](before, 0)))
    text = PLACES[place](before, length - shortest)
    made = Answer(text, encode(text))
    assert len(made.tokens) == length
    assert made.tokens[:max_tokens] == begun
    return made
