"""Models whose next token does not depend on how the last ones were read: whole or in two parts."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from mh_batch.engine.generate import Generator
from mh_batch.engine.model.load import LoadedModel
from mh_batch.jobs.generation import GenerationRequest
from mh_batch.jobs.settings import EngineOptions

SURE = 1000.0
"""What a token's logit has over those of all others where it is certain."""


class Scripted:
    """A model around another that says a script, the same tokens at the same places.

    Behind the end of the script, and everywhere in an empty one, all tokens are alike.
    """

    def __init__(self, inner: Any, prompt_tokens: int, script: Sequence[int], size: int) -> None:
        self._inner = inner
        self._prompt_tokens = prompt_tokens
        self._script = tuple(script)
        self._size = size
        self._read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def make_cache(self) -> Any:
        """Begin anew."""
        self._read = 0
        return self._inner.make_cache()

    def __call__(self, tokens: Any, cache: Any) -> Any:
        # for the caches alone, which are measured and copied
        self._inner(tokens, cache=cache)
        self._read += tokens.shape[1]
        place = self._read - self._prompt_tokens
        logits = mx.zeros((1, 1, self._size))
        if 0 <= place < len(self._script):
            logits[0, 0, self._script[place]] = SURE
        return logits


def scripted(loaded: LoadedModel, wanted: GenerationRequest, script: Sequence[int]) -> Generator:
    """A generator that answers this request with a script; nothing is reused between its runs."""
    prompt_tokens = len(loaded.adapter.render(wanted.prompt))
    size = loaded.model.args.vocab_size
    model = Scripted(loaded.model, prompt_tokens, script, size)
    return Generator(loaded._replace(model=model), EngineOptions(prefix_cache_bytes=0))
