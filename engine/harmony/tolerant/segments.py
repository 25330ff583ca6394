"""Splits a completion into messages by its control tokens alone, in whatever order they are."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mh_batch.engine.harmony.special_tokens import CHANNEL, MESSAGE, START, is_text, spell
from mh_batch.engine.parsing.message import CHANNELS, CLOSERS

# the longest channel name is two tokens, the longest role three; one more for a space before
NAME_TOKENS = 4

_HEADER_ENDS = CLOSERS | {MESSAGE, START}


class Piece(NamedTuple):
    """The tokens of one message: its header starts at `begin`, its text is from `text` to `end`.

    `started`: it begins after START, or at the beginning of the completion. `marked`: a MESSAGE
    token stands before `text`. `cut`: the next message began inside it.
    """

    started: bool
    begin: int
    text: int
    end: int
    marked: bool
    closed_by: int | None
    cut: bool

    @property
    def has_role(self) -> bool:
        """Whether the header itself names the role; for the first message the prompt does."""
        return self.started and self.begin > 0


def pieces(tokens: Sequence[int]) -> Iterator[Piece]:
    """Split a completion into messages."""
    position, started = 0, True
    while position < len(tokens):
        if tokens[position] == START:
            position, started = position + 1, True
        text = position
        while text < len(tokens) and tokens[text] not in _HEADER_ENDS:
            text += 1
        marked = text < len(tokens) and tokens[text] == MESSAGE
        text += marked
        end = text
        while marked and end < len(tokens) and not _ends_text(tokens, end):
            end += 1
        closed_by = tokens[end] if end < len(tokens) and tokens[end] in CLOSERS else None
        cut = closed_by is None and end < len(tokens)
        yield Piece(started, position, text, end, marked, closed_by, cut)
        position = end if closed_by is None else end + 1
        started = False


def _ends_text(tokens: Sequence[int], position: int) -> bool:
    """Whether a text ends here: it is closed, or the header of the next message begins."""
    if tokens[position] in CLOSERS or tokens[position] == START:
        return True
    return tokens[position] == CHANNEL and name_length(tokens, position + 1, CHANNELS) > 0


def name_length(tokens: Sequence[int], begin: int, names: Sequence[str]) -> int:
    """Return how many tokens from `begin` on spell one of `names`, 0 if they do not."""
    for count in range(1, NAME_TOKENS + 1):
        words = tokens[begin : begin + count]
        if len(words) == count and all(map(is_text, words)) and spell(words).strip() in names:
            return count
    return 0
