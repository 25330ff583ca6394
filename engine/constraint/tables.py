"""Token tables: what llguidance needs to know of a tokeniser.

They take about a second of one CPU and 75 to 120 MB, so they are made for the first request that
needs them.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from mh_batch.jobs.errors import JobError

if TYPE_CHECKING:
    from llguidance import LLTokenizer


class _Vocabulary:
    """A tokeniser with the attributes that `LLTokenizer` reads."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(
        self,
        tokens: Sequence[bytes],
        special: Sequence[int],
        end: int,
        encode: Callable[[str], Sequence[int]],
    ) -> None:
        self.tokens = tokens
        self.special_token_ids = special
        self.eos_token_id = end
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        """Return the token ids of a text, which has no control tokens."""
        return list(self._encode(text))


def tables_of_bytes(
    tokens: Sequence[bytes],
    special: Sequence[int],
    end: int,
    encode: Callable[[str], Sequence[int]],
) -> "LLTokenizer":
    """Return the tables of a vocabulary: the bytes of each token, a name for `special` ones.

    `end` is the token that is allowed only where a form is complete. `encode` returns the ids of a
    text as the model would write it.
    """
    # imported late, as below: most batches have no form
    from llguidance import LLTokenizer

    return LLTokenizer(_Vocabulary(tokens, special, end, encode), n_vocab=len(tokens))  # type: ignore[arg-type]


def tables_of_hugging_face(tokenizer: Any, ends: Iterable[int]) -> "LLTokenizer":
    """Return the tables of a tokeniser of transformers; `ends` are its end tokens.

    Raises `JobError` for one that llguidance cannot read: other jobs may do without a form.
    """
    from llguidance import LLTokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        kind = type(tokenizer).__name__
        raise JobError(f"a form needs a fast tokeniser; this model has {kind}")
    plain = copy(backend)
    plain.no_padding()
    plain.no_truncation()
    try:
        return LLTokenizer(plain.to_str(), eos_token=sorted(ends))
    except ValueError as error:
        raise JobError(f"a form needs a tokeniser that llguidance reads: {error}") from error
