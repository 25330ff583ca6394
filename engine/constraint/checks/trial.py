"""What llguidance says of a grammar when it begins a text with it; no model is needed."""

import re

from llguidance import LLMatcher

from mh_batch.engine.constraint.byte_table import BYTES, plain_table
from mh_batch.engine.constraint.forms import SubGrammar, joined, lark_grammar, regex

PAST_LIMITS = "past the limits of the parser"
"""How a reason begins where a grammar is too large."""

_LONGEST_REASON = 300
_LIMIT = re.compile(r"fuel|limit|too ?(big|large|complex)", re.IGNORECASE)
_PLACE = re.compile(r"^(?:at )?(\d+)\((\d+)\): ")


def grammar_fault(grammar: SubGrammar, nothing: str) -> str | None:
    """Return why llguidance refuses a grammar; `nothing` if no text fits, or only the empty one.

    It finds some faults only once it makes the first mask.
    """
    matcher = _matcher(grammar)
    if reason := _compile_fault(matcher):
        return reason
    mask = matcher.compute_bitmask()
    error = matcher.get_error()
    if error and not error.startswith("NoExtension"):
        return _said(error)
    return nothing if error or not any(mask[: BYTES // 8]) else None


def regex_fault(pattern: str) -> str | None:
    """Return why a regular expression is refused, without where it stands in our grammar."""
    matcher = _matcher(lark_grammar(f"start: TEXT\nTEXT: {regex(pattern)}", "text"))
    reason = _compile_fault(matcher)
    return None if reason is None else f"not usable here: {_PLACE.sub('', reason)}"


def matches_nothing(terminals: str, name: str) -> bool:
    """Whether no text at all matches a terminal of a Lark grammar."""
    matcher = _matcher(lark_grammar(f"start: {name}\n{terminals}", "terminal"))
    if matcher.get_error():
        return False
    mask = matcher.compute_bitmask()
    return bool(matcher.get_error()) or not any(mask)


def with_line(reason: str) -> str:
    """Return a reason that names a place of a Lark grammar in words."""
    return _PLACE.sub(r"line \1, column \2: ", reason)


def shortened(message: str) -> str:
    """Return a message of a library in one line, without the state or the text of its parser."""
    said = re.split(r"\n<state>|\n   1 \|", message)[0]
    text = " ".join(said.split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


def _compile_fault(matcher: LLMatcher) -> str | None:
    """Return what llguidance says against a grammar; a warning is that it ignores something."""
    error = matcher.get_error()
    messages = [error] if error else matcher.get_grammar_warnings()
    return _said(messages[0]) if messages else None


def _said(message: str) -> str:
    """Return what llguidance says; that one of its limits was reached is not plain from all."""
    past = f"{PAST_LIMITS}: " if _LIMIT.search(message) else ""
    return past + shortened(message)


def _matcher(grammar: SubGrammar) -> LLMatcher:
    whole = joined([f"start: @{grammar['name']}"], [grammar])
    return LLMatcher(plain_table(), whole, log_level=0)
