"""The compiled grammars of a model, kept for the attempts that have the same form."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from functools import cached_property

from llguidance import LLMatcher, LLTokenizer

from mh_batch.jobs.errors import JobError

from .matcher import Constraint, Exit, exits_of

KEPT = 16
"""How many grammars stay compiled."""


class CompiledGrammars:
    """Compiles grammars for the vocabulary of one model; on any thread.

    The token tables are made for the first grammar.
    """

    def __init__(self, make_tables: Callable[[], LLTokenizer], control: Collection[int]) -> None:
        """Take what makes the tables, and the control tokens of the model's format."""
        self._make_tables = make_tables
        self._control = sorted(control)
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, grammar: str) -> LLMatcher:
        """Return a matcher at the beginning of a grammar; raises `JobError` if it does not compile.

        It is a copy: what one attempt does with it changes nothing for others.
        """
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
    def _tables(self) -> LLTokenizer:
        return self._make_tables()

    @cached_property
    def _exits(self) -> tuple[Exit, ...]:
        return exits_of(self._tables, self._control)
