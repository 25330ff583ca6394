"""Repetition in a finished completion that the loop detector did not stop.

A completion that ended by itself was no endless loop, and may need to repeat itself. So it takes as
many words here as the loop detector takes tokens.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from mh_batch.engine.decoding.loop_detector import (
    REPETITIONS,
    SHORTEST_LOOP,
    LoopDetector,
    LoopMode,
    detected_at_end,
)
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.generation import Channel

LONGEST_CYCLE = 32
"""The most sentences of a cycle."""

# about as the vocabulary of gpt-oss cuts text, so that there are no more words than tokens; without
# line ends the ones of an identity matrix would repeat evenly
_WORD = re.compile(r"(?:[^\w\s]|_)?[^\W\d_]+(?:['\u2019]\w+)?|\d{1,3}|[^\w\s]+\n*|_+|\n+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def repeats(channels: Iterable[Channel], form: Form | None = None) -> bool:
    """Whether one of a completion's channels is repetitive.

    A `form` may have to repeat itself: of a final text in JSON each text in it is looked at that
    its schema does not dictate, and one in any other form is not.
    """
    found = (
        (channel, text)
        for channel in channels
        for text in _free_texts(channel, form)
        if repetitive(text)
    )
    return any(
        form is None or channel.channel != "final" or not _dictates(form, text)
        for channel, text in found
    )


def repetitive(text: str) -> bool:
    """Whether `text` repeats itself in a cycle of words or of sentences.

    The same words may be spelled with other tokens each time, and a cycle of sentences may be
    longer than the loop detector looks back. It takes 4 repetitions, and 512 words or 384 times one
    word.
    """
    return _words_cycle(text) or _sentences_cycle(text)


def ends_in_loop(tokens: Sequence[int]) -> bool:
    """Whether a completion that was cut ended in a loop, near repetition included.

    During generation that is not checked in every mode, since it may still have ended by itself.
    """
    return detected_at_end(tokens) is not None


def _free_texts(channel: Channel, form: Form | None) -> Iterator[str]:
    """Yield the texts of a channel that no form dictates."""
    if form is None or channel.channel != "final":
        yield channel.text
    elif form.is_json:
        with suppress(msgspec.DecodeError, RecursionError):
            yield from _strings(msgspec.json.decode(channel.text))


def _strings(value: Any) -> Iterator[str]:
    """Yield the texts in decoded JSON, those of keys excepted."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _dictates(form: Form, text: str) -> bool:
    """Whether a schema names a text or has a pattern that it matches."""
    # imported late: hardly any text repeats itself
    from mh_batch.engine.constraint.schema_places import places
    from mh_batch.engine.constraint.validation.answers import find_error

    for place in places(form.value):
        schema = place.schema if isinstance(place.schema, dict) else {}
        named = [schema[keyword] for keyword in ("const", "enum") if keyword in schema]
        if text in _strings(named):
            return True
        if (pattern := schema.get("pattern")) is not None and not find_error(
            {"pattern": pattern}, msgspec.json.encode(text).decode()
        ):
            return True
    return False


def _words_cycle(text: str) -> bool:
    numbers: dict[str, int] = {}
    push = LoopDetector(LoopMode.CHEAP).push
    words = (word.casefold() for word in _WORD.findall(text))
    return any(push(numbers.setdefault(word, len(numbers))) is not None for word in words)


def _sentences_cycle(text: str) -> bool:
    """Whether sentences repeat in the same order, as often and as long as tokens may not."""
    parts = (" ".join(part.split()).casefold() for part in _SENTENCE_END.split(text))
    sentences = [part for part in parts if part]
    for period in range(1, min(LONGEST_CYCLE, len(sentences) // REPETITIONS) + 1):
        words = same = 0  # that equal those a period before
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
