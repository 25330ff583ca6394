"""What may come next in an attempt whose answer has a form.

llguidance never raises: after an error its mask allows the end token only, so that a form which
could not be kept looks like an answer. So its error is asked for with every mask.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from llguidance import LLMatcher, LLTokenizer

_WORD_BITS = 32

_CLOSERS = (b"]", b"}", b'"')


class Exit(NamedTuple):
    """A token that may end what repeats, and where its bit is in a mask.

    `byte` is the byte of a closing bracket or quotation mark, empty for a control token.
    """

    token: int
    word: int
    bit: int
    byte: bytes


def exits_of(tables: LLTokenizer, control: Sequence[int]) -> tuple[Exit, ...]:
    """Return the tokens that may end what repeats: control tokens, and what closes JSON."""
    ids = [tables.greedy_tokenize(byte.decode()) for byte in _CLOSERS]
    closers = [(own[0], byte) for own, byte in zip(ids, _CLOSERS, strict=True) if len(own) == 1]
    known = [(token, b"") for token in control if 0 <= token < tables.vocab_size]
    return tuple(Exit(t, t // _WORD_BITS, t % _WORD_BITS, byte) for t, byte in known + closers)


class Constraint:
    """The form of one attempt: which tokens may come next.

    `error` says why the form cannot be kept to any longer, and is empty while it can.
    """

    def __init__(self, matcher: LLMatcher, tables: LLTokenizer, exits: Sequence[Exit]) -> None:
        """Begin with a matcher of its own, and make the first mask."""
        self.error = ""
        self._matcher = matcher
        self._tables = tables
        self._exits = exits
        self._words = array("I", [0]) * -(-tables.vocab_size // _WORD_BITS)
        self._nothing = self._words[:]
        self._pointer = self._words.buffer_info()[0]
        self._bound = 0
        self._make_mask()

    @property
    def mask(self) -> memoryview:
        """The mask of what may come next: words of 32 bits, the lowest token first.

        The next token changes it in place.
        """
        return memoryview(self._words)

    def advance(self, token: int) -> bool:
        """Take the next token and make the mask behind it; return whether the form is kept."""
        if self.error:
            return False
        self._bound = 0 if self._could_leave(token) else self._bound + 1
        if self._matcher.consume_token(token):
            self._make_mask()
        else:
            self.error = self._matcher.get_error() or f"token {token} is not allowed"
        return not self.error

    def lets_leave(self, period: int) -> bool:
        """Whether the form allowed to end what repeats at one of the last `period` tokens.

        If not, it is the form that repeats, and the model has no choice. A token that closes
        something counts as a way out, although what is around it may have to repeat as well.
        """
        return self._bound < period

    def _could_leave(self, token: int) -> bool:
        """Whether another token than this one was allowed that closes something."""
        words = self._words
        allowed = [e for e in self._exits if words[e.word] >> e.bit & 1 and e.token != token]
        if not allowed:
            return False
        # `},` closes as well as `}` does
        first = self._tables.decode_bytes([token])[:1]
        return any(not e.byte or e.byte != first for e in allowed)

    def _make_mask(self) -> None:
        self._matcher.unsafe_compute_mask_ptr(self._pointer, 4 * len(self._words))
        if self._matcher.is_error():
            self.error = self._matcher.get_error()
        elif self._words == self._nothing:
            self.error = "no token of the vocabulary goes on with the form"
