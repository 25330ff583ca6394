"""The long-run splitter: cuts texts, because the tokeniser is quadratic in the length of a run.

openai-harmony takes 4 s for 100,000 letters in a row, and would take a day for 10 MB of them. A
run is cut where it makes no difference: between two tokens that stay the same when they are encoded
together. If that holds at every cut, the ids of the parts are the byte pair encoding of the whole
text.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import regex

from mh_batch.jobs.errors import JobError

LONGEST_RUN = 50_000
"""The longest run in bytes that is encoded without a cut; it takes about a second."""

_LONG = 2_000
_WINDOW = 600
# a token has 128 bytes at the most, so one that ends here lies within the run
_MARGIN = 150
# the last tokens of a window may change once the text behind it is known
_UNSURE = 6

# runs inside which the vocabulary's own splitting expression never ends a word: every character
# of them continues the word before it
_ALIKE = (
    r"[\p{Ll}\p{Lo}\p{Lm}\p{M}]",
    r"[\p{Lu}\p{Lt}]",
    r"[^\s\p{L}\p{N}\p{M}]",
    r"[^\S\r\n]",
    r"[\r\n]",
)
# the classes of characters that can make one word
_WORD = (r"[\p{L}\p{M}]", r"[^\s\p{L}\p{N}]", r"\s")

Encode = Callable[[str], Sequence[int]]
Decode = Callable[[Sequence[int]], str | None]


class Limits(NamedTuple):
    """From which length on a run is cut, and how far ahead a cut is looked for, in characters."""

    long: int = _LONG
    window: int = _WINDOW


_LIMITS = Limits()


class _Start(NamedTuple):
    """Where a part begins, and the last token of the part before it."""

    position: int
    before: int | None


class LongRunSplitter:
    """Cuts texts for one vocabulary; `decode` returns `None` for ids that cut a character."""

    def __init__(self, encode: Encode, decode: Decode, limits: Limits = _LIMITS) -> None:
        self._encode = encode
        self._decode = decode
        self._limits = limits

    def parts(self, text: str) -> list[str]:
        """Return `text` in parts whose ids, joined, are the ids of the whole.

        Raises `JobError` if a run that cannot be cut would take the tokeniser too long.
        """
        if len(text) < self._limits.long:
            return [text]
        starts = self._starts(text)
        ends = [start.position for start in starts[1:]] + [len(text)]
        parts = [text[start.position : end] for start, end in zip(starts, ends, strict=True)]
        refuse_long_runs(*parts)
        return parts

    def _starts(self, text: str) -> list[_Start]:
        starts = [_Start(0, None)]
        for begin, end in self._runs(text):
            reach, least = self._limits.window, begin + _MARGIN
            while (target := max(starts[-1].position, begin) + reach) < end - _MARGIN:
                tokens = self._encode(text[starts[-1].position : target])
                if not self._joins(starts[-1], tokens):
                    # do not make the same cut again
                    least = starts.pop().position + 1
                    reach += self._limits.window
                    continue
                start = self._last_safe(starts[-1], tokens)
                if start is None or start.position < least:
                    reach += self._limits.window
                    continue
                starts.append(start)
                reach, least = self._limits.window, start.position + 1
        while starts[-1].before is not None:
            if self._joins(starts[-1], self._encode(text[starts[-1].position :])):
                break
            starts.pop()
        return starts

    def _runs(self, text: str) -> Iterator[tuple[int, int]]:
        for found in _expression(_ALIKE, self._limits.long).finditer(text):
            yield found.span()

    def _joins(self, start: _Start, tokens: Sequence[int]) -> bool:
        """Whether the token before `start` and the first behind it stay the same when joined."""
        if start.before is None:
            return True
        pair = [start.before, tokens[0]]
        text = self._decode(pair)
        return text is not None and list(self._encode(text)) == pair

    def _last_safe(self, start: _Start, tokens: Sequence[int]) -> _Start | None:
        """Return the last end of a token that also ends a character, `None` if there is none."""
        for count in range(len(tokens) - _UNSURE, 0, -1):
            text = self._decode(tokens[:count])
            if text is not None:
                return _Start(start.position + len(text), tokens[count - 1])
        return None


def refuse_long_runs(*texts: str) -> None:
    """Raise `JobError` for texts with runs so long that encoding them would take minutes."""
    words = _expression(_WORD, _LONG)
    cost = sum(len(w[0].encode()) ** 2 for text in texts for w in words.finditer(text))
    if cost > LONGEST_RUN**2:
        raise JobError(
            f"a text goes on for more than {LONGEST_RUN:,} bytes without a space, a digit or a "
            "change between letters and signs, which the tokeniser of this model cannot do in "
            "reasonable time; break it"
        )


@cache
def _expression(classes: Sequence[str], long: int) -> "regex.Pattern[str]":
    return regex.compile("|".join(f"{characters}{{{long},}}" for characters in classes))
