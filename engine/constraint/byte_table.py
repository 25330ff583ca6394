"""A token table of single bytes: what needs no model is checked with it."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLTokenizer

# nothing in a grammar can name it: llguidance allows no white space in names
_END = "<|end of text|>"

BYTES = 256


class _Bytes:
    """What llguidance asks of a tokeniser."""

    bos_token_id = None

    def __init__(self, control_tokens: Sequence[str]) -> None:
        names = (_END, *control_tokens)
        self.tokens = [bytes([i]) for i in range(BYTES)] + [name.encode() for name in names]
        self.eos_token_id = BYTES
        self.special_token_ids = list(range(BYTES, len(self.tokens)))

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


def byte_table(control_tokens: Sequence[str] = ()) -> "LLTokenizer":
    """Return a table in which ids below `BYTES` are bytes.

    The end token has the id `BYTES`; the control tokens follow.
    """
    # imported late: most processes have no form
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(TokenizerWrapper(_Bytes(control_tokens)))


@functools.cache
def plain_table() -> "LLTokenizer":
    """Return the table without control tokens, made once."""
    return byte_table()
