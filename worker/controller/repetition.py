"""Repetition that shows when a completion is over: what the watcher of tokens let through.

A completion that ended by itself was no endless loop, and may have had to repeat itself. So it
takes as many words here as it takes tokens to end a stream.
"""

import re
from collections.abc import Iterable, Sequence

from mh_batch.engine.decoding.loop_detector import (
    REPETITIONS,
    SHORTEST_LOOP,
    LoopDetector,
    LoopMode,
    detected_at_end,
)
from mh_batch.jobs.generation import Channel

LONGEST_CYCLE = 32
"""How many sentences a cycle may have."""

# about as the vocabulary of gpt-oss cuts text, so that there are no more words than tokens; the end
# of a line counts, for without it the 1s of an identity matrix come round evenly
_WORD = re.compile(r"(?:[^\w\s]|_)?[^\W\d_]+(?:['\u2019]\w+)?|\d{1,3}|[^\w\s]+\n*|_+|\n+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def repeats(channels: Iterable[Channel]) -> bool:
    """Whether one of a completion's channels says the same again and again."""
    return any(repetitive(channel.text) for channel in channels)


def repetitive(text: str) -> bool:
    """Whether `text` goes round in circles, by its words or by its sentences.

    The same words in a cycle are a loop as the same tokens are, though they may be spelled with
    other tokens each time. By sentences a cycle is seen that is longer than the watcher of tokens
    looks back. It takes 4 times round, and 512 words or 384 times one word.
    """
    return _words_cycle(text) or _sentences_cycle(text)


def goes_on(tokens: Sequence[int]) -> bool:
    """Whether a completion that ran out of room was in a loop by then, near repetition too.

    While it ran the watcher may have had no eye for that: it could have come to an end.
    """
    return detected_at_end(tokens) is not None


def _words_cycle(text: str) -> bool:
    numbers: dict[str, int] = {}
    push = LoopDetector(LoopMode.CHEAP).push
    words = (word.casefold() for word in _WORD.findall(text))
    return any(push(numbers.setdefault(word, len(numbers))) is not None for word in words)


def _sentences_cycle(text: str) -> bool:
    """Whether sentences come round in the same order, as often and as long as tokens may not."""
    parts = (" ".join(part.split()).casefold() for part in _SENTENCE_END.split(text))
    sentences = [part for part in parts if part]
    for period in range(1, min(LONGEST_CYCLE, len(sentences) // REPETITIONS) + 1):
        words = same = 0  # of what was said before, a period back
        for before, sentence in zip(sentences, sentences[period:], strict=False):
            if before != sentence:
                words = same = 0
                continue
            same += 1
            words += len(sentence.split())
            often = same >= (REPETITIONS - 1) * period
            if often and words * (same + period) >= SHORTEST_LOOP * same:
                return True
    return False
