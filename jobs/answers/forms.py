"""The form that an answer must have, and whether it must be a call."""

import json
from collections.abc import Collection
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mh_batch.jobs.did_you_mean import nearest
from mh_batch.jobs.errors import SettingsError

from .accept_rules import AcceptRules

MAX_NAME_CHARS = 64
FormName = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9_-]{{1,{MAX_NAME_CHARS}}}\Z")]
FormKind = Literal["json_schema", "json_object", "regex", "choice", "grammar"]


class Form(msgspec.Struct, frozen=True, omit_defaults=True):
    """The form of the answer itself; reasoning and tool calls are not part of it.

    `value` is the JSON schema (an object), the regular expression, the tuple of choices, or the
    Lark grammar of llguidance; `None` for `json_object`. `whitespace_pattern` is the regular
    expression of white space between JSON tokens, `None` for the usual: single spaces or a line
    break with indentation. `name` and `description` are shown to models whose format has a place
    for a form (Harmony's `# Response Formats`).
    """

    kind: FormKind
    value: Any = None
    whitespace_pattern: str | None = None
    name: str | None = None
    description: str | None = None

    @property
    def is_json(self) -> bool:
        """Whether the answer is JSON, which is stored parsed."""
        return self.kind in ("json_schema", "json_object")


class ToolChoice(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the answer may or must be a tool call, as OpenAI's `tool_choice`.

    `name` is the only function that may be called, `None` for any that is declared; it goes with
    `required`.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None


AUTO = ToolChoice()

INCOMPLETE = "incomplete_form"
"""The parse problem of an answer that was cut inside its form."""

VIOLATED = "form_violated"
"""The parse problem of an answer that came to its end without having its form."""


class JsonSchemaFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `json_schema` of OpenAI's `response_format`; `strict` changes nothing: it always is."""

    name: FormName = "answer"
    schema: dict[str, Any] | bool | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """OpenAI's `response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """vLLM's `structured_outputs`: exactly one kind of form."""

    json: dict[str, Any] | str | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    whitespace_pattern: str | None = None


class NamedFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The function of a named `tool_choice`."""

    name: str


class NamedToolChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """OpenAI's `tool_choice` with a function."""

    function: NamedFunction
    type: Literal["function"] = "function"


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the answer must look like, in OpenAI's and vLLM's names.

    `response_format` or `structured_outputs` gives the form of the final answer; `None` leaves it
    free. Reasoning is always free. `tool_choice` says whether the answer may or must be a call:
    `required` or a named function holds for the first call of a turn; behind the result of a tool
    it is `auto`. `accept` are rules for the finished answer, `None` for none.
    """

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedToolChoice = "auto"
    accept: AcceptRules | None = None

    @property
    def form(self) -> Form | None:
        """The form that is asked for, `None` for free text; raises `SettingsError`."""
        return form_of(self.response_format, self.structured_outputs)

    @property
    def form_field(self) -> str:
        """Where the form is given, such as `structured_outputs.regex`; raises `SettingsError`."""
        form = self.form
        if self.structured_outputs is None or form is None:
            schema = form is not None and form.kind == "json_schema"
            return "response_format.json_schema.schema" if schema else "response_format"
        return f"structured_outputs.{'json' if form.kind == 'json_schema' else form.kind}"


def json_of(final: str | None, form: Form | None) -> str | None:
    """Return the JSON of a final text whose form is JSON, as the model wrote it.

    `None` where there is no final text, for any other form, and for a text that is no JSON.
    """
    if final is None or form is None or not form.is_json:
        return None
    text = final.strip()
    try:
        # numbers have no range: what reads them later may have one
        json.loads(text, parse_float=str, parse_int=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return text


def form_of(
    response_format: ResponseFormat | None, structured_outputs: StructuredOutputs | None
) -> Form | None:
    """Return the form that these settings ask for, `None` for free text.

    Raises `SettingsError` if they contradict each other or lack their part.
    """
    asked = _of_response_format(response_format) if response_format is not None else None
    other = _of_structured_outputs(structured_outputs) if structured_outputs is not None else None
    if asked is not None and other is not None:
        raise SettingsError("response_format and structured_outputs: which one is the form?")
    return asked or other


def check_tool_choice(choice: ToolChoice, tools: Collection[str]) -> None:
    """Refuse a call that must be made where none can be: `tools` are the functions there are.

    Raises `SettingsError`.
    """
    if choice.mode != "required":
        return
    if not tools:
        raise SettingsError(f"tool_choice: {choice.name or choice.mode}, but there are no tools")
    if choice.name is not None and choice.name not in tools:
        meant = nearest(choice.name, tools)
        cure = f"did you mean {meant}?" if meant else f"must be one of {', '.join(tools)}"
        raise SettingsError(f"tool_choice: no tool is called {choice.name}; {cure}")


def tool_choice_of(value: str | NamedToolChoice) -> ToolChoice:
    """Return a `tool_choice` setting in its one form."""
    if isinstance(value, NamedToolChoice):
        return ToolChoice("required", value.function.name)
    return msgspec.convert({"mode": value}, ToolChoice)


def _refuse(constant: str) -> None:
    """Refuse NaN and the infinities, which Python reads but JSON does not have."""
    raise ValueError(f"{constant} is no number")


def _of_response_format(given: ResponseFormat) -> Form | None:
    schema = given.json_schema
    if given.type != "json_schema":
        if schema is not None:
            raise SettingsError(f"response_format: json_schema does not go with type {given.type}")
        return Form("json_object") if given.type == "json_object" else None
    if schema is None or schema.schema is None:
        raise SettingsError("response_format: json_schema.schema is missing")
    return Form("json_schema", schema.schema, name=schema.name, description=schema.description)


def _of_structured_outputs(given: StructuredOutputs) -> Form | None:
    kinds: dict[FormKind, Any] = {
        "json_schema": given.json,
        "regex": given.regex,
        "choice": given.choice,
        "grammar": given.grammar,
        "json_object": given.json_object or None,
    }
    found = [(kind, value) for kind, value in kinds.items() if value is not None]
    if len(found) != 1:
        names = "json, regex, choice, grammar, json_object"
        raise SettingsError(f"structured_outputs: exactly one of {names} is needed")
    ((kind, value),) = found
    if kind == "json_object":
        value = None
    if kind == "json_schema" and isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise SettingsError(f"structured_outputs.json: not JSON: {error}") from None
    if kind == "json_schema" and not isinstance(value, dict | bool):
        raise SettingsError("structured_outputs.json: a schema is an object")
    if given.whitespace_pattern is not None and kind not in ("json_schema", "json_object"):
        raise SettingsError("structured_outputs: whitespace_pattern is for JSON only")
    return Form(kind, value, whitespace_pattern=given.whitespace_pattern)
