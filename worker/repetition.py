"""Repetition that shows only in the text: what the watcher of tokens let through."""

import re
from collections.abc import Iterable

from mh_batch.engine.loops import REPETITIONS, SHORTEST_LOOP, LoopDetector, LoopMode
from mh_batch.jobs.generation import Channel

LONGEST_CYCLE = 32
"""How many sentences a cycle may have."""

_WORD = re.compile(r"\w+|[^\w\s]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def repeats(channels: Iterable[Channel]) -> bool:
    """Whether one of a completion's channels says the same again and again."""
    return any(repetitive(channel.text) for channel in channels)


def repetitive(text: str) -> bool:
    """Whether `text` goes round in circles, by its words or by its sentences.

    The same words in a cycle are a loop as the same tokens are, though they may be spelled with
    other tokens each time. By sentences a cycle is seen that is longer than the watcher of tokens
    looks back.
    """
    return _words_cycle(text) or _sentences_cycle(text)


def _words_cycle(text: str) -> bool:
    numbers: dict[str, int] = {}
    push = LoopDetector(LoopMode.CHEAP).push
    words = (word.casefold() for word in _WORD.findall(text))
    return any(push(numbers.setdefault(word, len(numbers))) is not None for word in words)


def _sentences_cycle(text: str) -> bool:
    """Whether sentences come round in the same order, as often as tokens may not."""
    parts = (" ".join(part.split()).casefold() for part in _SENTENCE_END.split(text))
    sentences = [part for part in parts if part]
    for period in range(1, min(LONGEST_CYCLE, len(sentences) // REPETITIONS) + 1):
        words = same = 0
        for before, sentence in zip(sentences, sentences[period:], strict=False):
            if before != sentence:
                words = same = 0
                continue
            same += 1
            words += len(sentence.split())
            if same >= (REPETITIONS - 1) * period and words >= SHORTEST_LOOP:
                return True
    return False
