"""Reads completions: the same way right after they were generated and long after.

Completions of gpt-oss are read without MLX and without the model. Those of other models take their
tokeniser, which mlx-lm loads.
"""

from functools import partial
from pathlib import Path

import msgspec

from mh_batch.engine.decoding.stop_sequences import cut_answer
from mh_batch.engine.model.folder import find_here
from mh_batch.engine.parsing.calls import check_calls
from mh_batch.jobs.conversation import Tool
from mh_batch.jobs.errors import EnvironmentFault, ModelNotLoaded
from mh_batch.jobs.generation import Parse, StopReason
from mh_batch.jobs.settings import Prompting

from .adapter import Adapter
from .adapter_choice import ADAPTERS, make_adapter


class Completion(msgspec.Struct, frozen=True):
    """All of an attempt that its parse depends on.

    `tokens` are the completion's ids, its stop token included. `response_prefill` is the beginning
    of the answer that was part of the prompt: a forced final, or what an earlier attempt wrote.
    `stops` are the stop sequences of the attempt, `tools` the functions that the request declared,
    `prompting` is what else shaped the prompt.
    """

    tokens: tuple[int, ...]
    stop_reason: StopReason
    response_prefill: tuple[int, ...] = ()
    stops: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    prompting: Prompting = Prompting()


def read(adapter: Adapter, completion: Completion) -> Parse:
    """Return the parse of a completion, its response prefill included; never raises."""
    tokens = (*completion.response_prefill, *completion.tokens)
    how = (completion.stop_reason, completion.tools, completion.prompting)
    parse = adapter.parse(tokens, *how)
    if completion.stop_reason is StopReason.STOP_SEQUENCE:
        parse = cut_answer(parse, completion.stops)
    return check_calls(parse, completion.tools)


class CompletionReader:
    """Reads stored completions of one model, with the adapter that it was loaded with.

    Nothing is downloaded. Raises `ModelNotLoaded` if the model's tokeniser is not on this machine,
    or if there is no such adapter.
    """

    def __init__(self, adapter_name: str, model: str) -> None:
        self._model = model
        self._adapter = _adapter(adapter_name, model)

    def read(self, completion: Completion, raw: str) -> Parse:
        """Return the parse of a completion whose tokens decoded to `raw` when it was generated.

        Raises `ModelNotLoaded` if they decode to something else now: the tokeniser has changed.
        """
        if self._adapter.decode(completion.tokens) != raw:
            raise ModelNotLoaded(
                f"{self._model}: its tokeniser is not the one that made these answers; bring the "
                "model back as it was"
            )
        return read(self._adapter, completion)


def _adapter(name: str, model: str) -> Adapter:
    if name not in ADAPTERS:
        raise ModelNotLoaded(f"{model}: no adapter is called {name}; this version cannot read it")
    try:
        return make_adapter(name, partial(_folder, model))
    except (EnvironmentFault, ModelNotLoaded):
        raise
    except Exception as error:  # whatever transformers makes of the folder
        raise ModelNotLoaded(
            f"{model}: its tokeniser does not load from {find_here(model)}: {error}"
        ) from error


def _folder(model: str) -> Path:
    """Return the model's folder: a path, or the folder of a hub name in the hub's cache."""
    folder = find_here(model)
    if folder is None:
        raise ModelNotLoaded(
            f"{model}: reading its answers again takes its tokeniser, and its folder is not on "
            "this machine; load the model once, or put the folder back"
        )
    return folder
