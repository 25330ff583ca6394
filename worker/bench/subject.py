"""The engine under measurement, by its public calls only."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import psutil

from mh_batch.engine.generate import Generator
from mh_batch.engine.model.load import load
from mh_batch.jobs.generation import Generation, Prompt
from mh_batch.jobs.settings import EngineOptions

from .rounds import Sample
from .workload import NO_REUSE, REUSE, UNWATCHED, make_request


class Endless:
    """The model's adapter without stop tokens, so that completions have the full length."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self.stop_tokens: frozenset[int] = frozenset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)


class Bound(Endless):
    """An adapter of which each completion must match one grammar."""

    def __init__(self, adapter: Any, grammar: str) -> None:
        super().__init__(adapter)
        self._grammar = grammar

    def grammar(self, _prompt: Prompt) -> str:
        """Return that grammar."""
        return self._grammar


class Subject:
    """A loaded model with the engine around it, on the thread that made it."""

    def __init__(self, name: str) -> None:
        loaded = load(name)
        self.model = loaded.model
        self._loaded = loaded._replace(adapter=Endless(loaded.adapter))
        # rounds repeat their prompts: with reuse, only the first would prefill
        self._generator = self.generator(NO_REUSE)
        self._reusing = self.generator(REUSE)

    def forget(self) -> None:
        """Drop the cached prompts, so that only the model uses memory."""
        self._reusing = self.generator(REUSE)

    def generator(self, options: EngineOptions) -> Generator:
        """Return a generator of its own with these options."""
        return Generator(self._loaded, options)

    def bound(self, grammar: str, options: EngineOptions) -> Generator:
        """Return a generator whose answers match this grammar."""
        adapter = Bound(self._loaded.adapter, grammar)
        return Generator(self._loaded._replace(adapter=adapter), options)

    def tokens(self, prompt: Prompt) -> list[int]:
        """Return the prompt as the engine renders it."""
        return list(self._loaded.adapter.render(prompt))

    def length(self, prompt: Prompt) -> int:
        """Return how many tokens the prompt has."""
        return len(self.tokens(prompt))

    def generate(
        self,
        prompt: Prompt,
        values: Mapping[str, Any],
        *,
        progress: Callable[[int], None] = lambda _: None,
        generator: Any = None,
    ) -> Generation:
        """Run one request with `values` over the built-in settings."""
        request = make_request(prompt, values)
        runner = self._generator if generator is None else generator
        done: Generation = runner.generate(request, lambda: False, progress)
        # a step queued ahead must not run into the next measurement
        mx.synchronize()
        return done

    def decode_speed(self, prompt: Prompt, values: Mapping[str, Any]) -> Sample:
        """Return the tokens a second after the first token; a repeated prompt is reused."""
        done = self.generate(prompt, values, generator=self._reusing)
        count, asked = len(done.tokens), values["max_tokens"]
        note = ""
        if count < asked:
            note = f"ended after {count} of {asked} tokens ({done.stop_reason})"
        return Sample(done.timings.tokens_per_second or 0.0, note)

    def prefill_speed(self, prompt: Prompt) -> Sample:
        """Return the prompt's tokens a second, up to the first token in hand."""
        done = self.generate(prompt, {"max_tokens": 1, "temperature": 0.0})
        return Sample(done.prompt_tokens / done.timings.first_token_seconds)

    def wall(
        self, prompts: list[Prompt], values: Mapping[str, Any], options: EngineOptions
    ) -> Sample:
        """Return the seconds for all prompts, one after the other, on a fresh generator."""
        generator = self.generator(options)
        start = time.perf_counter()
        for prompt in prompts:
            self.generate(prompt, {**UNWATCHED, **values}, generator=generator)
        return Sample(time.perf_counter() - start)

    @staticmethod
    def active_memory() -> int:
        """Return the bytes of all live arrays."""
        return int(mx.get_active_memory())

    @staticmethod
    def process_memory() -> int:
        """Return the resident bytes of this process."""
        return int(psutil.Process().memory_info().rss)
