"""Whether a regular expression matches white space alone, which is no answer."""

import functools
import json

from .byte_table import plain_table

# Python's `strip`, which decides whether an answer is empty, also removes these four separators
BLANK = r"/[\s\x1c-\x1f]*/"
"""White space or none, as a regular expression in a Lark grammar."""


@functools.lru_cache(256)
def can_be_blank(terminal: str) -> bool:
    """Whether a regular expression in a Lark grammar matches white space alone, or nothing.

    True as well where that cannot be told.
    """
    # imported late: most processes have no form
    from llguidance import LLMatcher

    grammar = {"lark_grammar": f"start: TEXT\nTEXT: {terminal} & {BLANK}"}
    matcher = LLMatcher(plain_table(), json.dumps({"grammars": [grammar]}), log_level=0)
    if matcher.is_error():
        return True
    mask = matcher.compute_bitmask()
    return not matcher.is_error() and any(mask)
