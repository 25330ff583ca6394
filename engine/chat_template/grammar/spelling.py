"""Texts and control tokens in the rules of a Lark grammar."""

import re
from collections.abc import Callable
from typing import Any

from mh_batch.engine.constraint.forms import quoted

Spell = Callable[[str], str]
"""Returns a text as it stands in a rule: added tokens by their ids, the rest between quotes."""

ANYTHING = r"/(.|\n)*/"

# not `re.escape`: `\<` would be the beginning of a word
_MEANS_SOMETHING = re.compile(r"[.*+?()|{}^$/\[\]\\]")


def speller(tokenizer: Any) -> Spell:
    """Return what spells texts for the rules of a Hugging Face tokeniser's model."""
    ids = {str(token): token_id for token_id, token in tokenizer.added_tokens_decoder.items()}
    longest_first = sorted(map(re.escape, ids), key=len, reverse=True)
    added = re.compile(f"({'|'.join(longest_first) or '(?!)'})")

    def spell(text: str) -> str:
        parts = (part for part in added.split(text) if part)
        return " ".join(f"<[{ids[p]}]>" if p in ids else quoted(p) for p in parts)

    return spell


def without(text: str | None) -> str:
    """Return the terminal of texts that do not hold `text`, of all texts for `None`."""
    if text is None:
        return ANYTHING
    inside = _MEANS_SOMETHING.sub(r"\\\g<0>", text)
    return f"{ANYTHING} & ~/(.|\\n)*{inside}(.|\\n)*/"
