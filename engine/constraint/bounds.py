"""What binds a completion: which answer and which calls it may hold."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mh_batch.jobs.answers.forms import Form, ToolChoice
from mh_batch.jobs.conversation import FunctionSpec, Tool
from mh_batch.jobs.generation import Prompt

from .forms import SubGrammar, schema_grammar

_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


class Call(NamedTuple):
    """A function that may be called.

    `parameters` is the JSON schema that binds its arguments, `declared` the one in its declaration
    (`None` for no parameters): the same where the function is `strict`.
    """

    name: str
    parameters: dict[str, Any]
    declared: dict[str, Any] | None = None
    strict: bool = False

    def grammar(self, name: str) -> SubGrammar:
        """Return the grammar of the arguments."""
        return schema_grammar(self.parameters, name)


class Bounds(NamedTuple):
    """What a completion may end with: an answer, one of the calls, or either.

    `form` is the form of the answer, `None` for any text that is not blank. `binds_calls` is
    whether the calls are bound themselves: one is required, or a function is strict.
    """

    answers: bool
    form: Form | None
    calls: tuple[Call, ...]
    binds_calls: bool


def bounds_of(prompt: Prompt) -> Bounds | None:
    """Return what binds a completion of `prompt`, `None` where nothing does."""
    choice = prompt.tool_choice
    strict = any(tool.function.strict for tool in prompt.tools)
    # without tools there is nothing to be kept from
    chosen = choice.mode == "required" or (choice.mode == "none" and bool(prompt.tools))
    if prompt.form is None and not chosen and not strict:
        return None
    calls = callable_functions(prompt.tools, choice)
    required = choice.mode == "required"
    return Bounds(not required, prompt.form, calls, required or strict)


def callable_functions(tools: Sequence[Tool], choice: ToolChoice) -> tuple[Call, ...]:
    """Return the functions that may be called, each once."""
    if choice.mode == "none":
        return ()
    functions = {
        tool.function.name: tool.function
        for tool in reversed(tools)
        if choice.name in (None, tool.function.name)
    }
    return tuple(
        Call(name, parameters(f), f.parameters, bool(f.strict))
        for name, f in reversed(functions.items())
    )


def parameters(function: FunctionSpec) -> dict[str, Any]:
    """Return the JSON schema of a function's arguments: that of any object if it is not strict."""
    if not function.strict:
        return {"type": "object"}
    if function.parameters is None:
        return _NO_PARAMETERS
    return {**function.parameters, "type": "object"}
