"""What may come next in an attempt whose answer has a form.

llguidance never raises: after an error its mask allows the end token only, so that a form which
could not be kept looks like an answer. So its error is asked for with every mask.
"""

import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from mh_batch.jobs.errors import JobError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

KEPT = 16
"""How many grammars stay compiled."""

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


def exits_of(tables: "LLTokenizer", control: Sequence[int]) -> tuple[Exit, ...]:
    """Return the tokens that may end what repeats: control tokens, and what closes JSON."""
    ids = [tables.greedy_tokenize(byte.decode()) for byte in _CLOSERS]
    closers = [(own[0], byte) for own, byte in zip(ids, _CLOSERS, strict=True) if len(own) == 1]
    known = [(token, b"") for token in control if 0 <= token < tables.vocab_size]
    return tuple(Exit(t, t // _WORD_BITS, t % _WORD_BITS, byte) for t, byte in known + closers)


class Constraint:
    """The form of one attempt: which tokens may come next.

    `error` says why the form cannot be kept to any longer, and is empty while it can.
    """

    def __init__(self, matcher: "LLMatcher", tables: "LLTokenizer", exits: Sequence[Exit]) -> None:
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


class CompiledGrammars:
    """Compiles grammars for the vocabulary of one model; on any thread.

    The token tables are made for the first grammar.
    """

    def __init__(self, make_tables: Callable[[], "LLTokenizer"], control: Collection[int]) -> None:
        """Take what makes the tables, and the control tokens of the model's format."""
        self._make_tables = make_tables
        self._control = sorted(control)
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def load_tables(self) -> None:
        """Make the token tables, if that has not been done."""
        with self._lock:
            _ = self._tables

    def compile(self, grammar: str) -> "LLMatcher":
        """Return a matcher at the beginning of a grammar; raises `JobError` if it does not compile.

        It is a copy: what one attempt does with it changes nothing for others.
        """
        # imported late: most batches have no form
        from llguidance import LLMatcher

        with self._lock:
            kept = self._kept.get(grammar)
            if kept is None:
                kept = LLMatcher(self._tables, grammar, log_level=0)
                if kept.is_error():
                    raise JobError(f"the form does not compile: {kept.get_error()}")
                self._kept[grammar] = kept
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(grammar)
            return kept.deep_copy()

    def begin(self, grammar: str, prefill: Sequence[int] = ()) -> Constraint | None:
        """Return the form of an attempt behind its response prefill.

        `None` if the form does not allow that prefill. Raises `JobError` if the grammar does not
        compile.
        """
        matcher = self.compile(grammar)
        constraint = Constraint(matcher, self._tables, self._exits)
        # token by token, as if they were drawn here: what is counted on the way is the same
        return constraint if all(map(constraint.advance, prefill)) else None

    @cached_property
    def _tables(self) -> "LLTokenizer":
        return self._make_tables()

    @cached_property
    def _exits(self) -> tuple[Exit, ...]:
        return exits_of(self._tables, self._control)
