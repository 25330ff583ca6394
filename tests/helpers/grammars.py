"""Grammars for the tests: tables of bytes, what a grammar accepts, and walks through its masks."""

import functools
import json
import random
import re
from collections.abc import Collection, Iterator
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from mh_batch.engine.constraint.byte_table import BYTES, byte_table
from mh_batch.engine.constraint.forms import form_grammar, joined
from mh_batch.jobs.answers.forms import Form

CONTROL_TOKENS = ("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>")
END = "<|return|>"
_CONTROL = re.compile(r"(<\|[a-z]+\|>)")
_IDS = {END: BYTES} | {name: BYTES + 1 + i for i, name in enumerate(CONTROL_TOKENS)}
_NAMES = {i: name for name, i in _IDS.items()}

# what ends a value, likeliest to end the whole first
_CLOSERS = tuple(b'"}],:0')
_OPENERS = tuple(b"{[")


@functools.cache
def harmony_bytes() -> LLTokenizer:
    """A table of bytes and of Harmony's control tokens, `<|return|>` the end token."""
    return byte_table(CONTROL_TOKENS)


def of_form(form: Form) -> str:
    """The grammar of texts that have a form."""
    return joined(["start: @form"], [form_grammar(form, "form")])


def of_schema(schema: dict[str, Any]) -> str:
    """The grammar of JSON that a schema allows."""
    return of_form(Form("json_schema", schema))


def matcher(grammar: str) -> LLMatcher:
    """A matcher over Harmony's bytes."""
    made = LLMatcher(harmony_bytes(), grammar, log_level=0)
    assert not made.is_error(), made.get_error()
    return made


def spelled_ids(text: str) -> list[int]:
    """The ids of a text in which control tokens are spelled out."""
    parts = _CONTROL.split(text)
    return [i for part in parts for i in ([_IDS[part]] if part in _IDS else part.encode())]


def spell(ids: Collection[int]) -> str:
    """The text of ids, control tokens spelled out."""
    return b"".join(_NAMES[i].encode() if i in _NAMES else bytes([i]) for i in ids).decode()


def accepts(grammar: str, text: str) -> bool:
    """Whether a text with control tokens spelled out is complete; without the end token."""
    return reads_all(matcher(grammar), text)


def reads_all(made: LLMatcher, text: str) -> bool:
    """Whether a matcher takes a text as complete; it is at the beginning again after that."""
    ids = spelled_ids(text)
    taken = made.try_consume_tokens(ids)
    complete = taken == len(ids) and made.is_accepting()
    assert made.rollback(taken)
    return complete


def begins(grammar: str, text: str) -> bool:
    """Whether a text may be the beginning of a completion."""
    ids = spelled_ids(text)
    return matcher(grammar).try_consume_tokens(ids) == len(ids)


def walk(grammar: str, seed: object, steps: int = 60, most: int = 5000) -> list[int]:
    """Ids drawn at random from those that the masks allow, to the end, its token left out.

    From `steps` on it takes what closes a value where it may.
    """
    rng, made = random.Random(str(seed)), matcher(grammar)
    ids: list[int] = []
    while not made.is_stopped():
        mask = made.compute_bitmask()
        assert not made.is_error(), made.get_error()
        allowed = [i for i in range(len(mask) * 8) if mask[i >> 3] >> (i & 7) & 1]
        assert allowed
        token = _draw(rng, allowed, hurry=len(ids) >= steps)
        if token == BYTES:
            break
        assert made.consume_token(token)
        ids.append(token)
        assert len(ids) < most, spell(ids[:500])
    return ids


def _draw(rng: random.Random, allowed: list[int], *, hurry: bool) -> int:
    """Return one of the allowed ids, in a hurry mostly the one that ends the most."""
    if BYTES in allowed and (hurry or rng.random() < 0.5):
        return BYTES
    closers = [i for i in _preferred() if i in allowed]
    if closers and rng.random() < (0.7 if hurry else 0.2):
        return closers[0] if hurry else rng.choice(closers)
    shut = [i for i in allowed if i not in _OPENERS] if hurry else []
    return rng.choice(shut or allowed)


def _preferred() -> Iterator[int]:
    yield from (_IDS["<|call|>"], _IDS["<|end|>"])
    yield from _CLOSERS


def dumps(value: Any) -> Iterator[str]:
    """The usual ways to write a value as JSON."""
    for separators in ((",", ":"), (", ", ": ")):
        yield json.dumps(value, ensure_ascii=False, separators=separators)
    yield json.dumps(value, ensure_ascii=False, indent=2)
