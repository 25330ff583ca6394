"""The shapes of a line, each decoded strictly into one `Request`.

OpenAI batch (`body`), chat (`messages`, `turns`), MT-Bench (`turns`), plain (`prompt`), ShareGPT
(`conversations`) and Alpaca (`instruction`). An error names the field as the user wrote it.
"""

from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from mh_batch.jobs.conversation import Message, Request, Tool, ToolResults
from mh_batch.jobs.did_you_mean import nearest
from mh_batch.jobs.foreign.names import NESTED

from .fields import (
    ALPACA_KEYS,
    BATCH_KEYS,
    BODY_KEYS,
    LINE_KEYS,
    SHAPES,
    BadField,
    Fields,
    InBody,
    NoShape,
    check_tool_name,
    decode_field,
    decoder,
    hint,
    unknown_fields,
)
from .line_model import line_model
from .line_settings import Inherited, SettingsPlace, line_settings
from .messages import ShareGptTurn, alpaca_messages, chat_messages, sharegpt_messages, with_system
from .nested import holds_settings, opened

Choices = Annotated[int, Meta(ge=1, le=128)]


class Shaped(msgspec.Struct, frozen=True):
    """A decoded line: its request, its model, its unknown keys, and whether it says its `n`."""

    request: Request
    model: str | None
    extra: dict[str, msgspec.Raw]
    names_n: bool = False


class LineDefaults(msgspec.Struct, frozen=True):
    """What a line has that does not name it: a system message, and a number of completions.

    `None` for neither.
    """

    system: str | None = None
    n: int | None = None


NO_DEFAULTS = LineDefaults()


def shape(fields: Fields, inherited: Inherited, defaults: LineDefaults = NO_DEFAULTS) -> Shaped:
    """Turn the top-level fields of a line into a request.

    Its settings must be compatible with those `inherited` from its batch. Raises `BadField` with
    the field and the reason.
    """
    found = [name for name in SHAPES if name in fields]
    if found not in ([], ["messages", "turns"]) and len(found) > 1:
        raise BadField(f"{' and '.join(found)}: which one is the conversation?")
    if not found and "instruction" in fields:
        found = ["instruction"]
    if not found:
        raise NoShape(
            "no known shape: a line needs one of messages, turns, prompt, conversations, "
            "instruction or body" + hint(fields),
            fields,
        )
    if found == ["body"]:
        return _with_defaults(_openai_batch(fields, inherited), defaults)
    place = SettingsPlace("", inherited)
    fields = opened(fields, place)
    extra = unknown_fields(fields, ALPACA_KEYS if found == ["instruction"] else LINE_KEYS, "")
    messages = with_system(fields, _context(fields, found[0]), "")
    turns = decode_field(fields, "turns", tuple[str, ...]) if "turns" in fields else ()
    return _with_defaults(_build(fields, messages, turns, extra, place), defaults)


def _with_defaults(shaped: Shaped, defaults: LineDefaults) -> Shaped:
    """Return the line with what it does not name."""
    if defaults is NO_DEFAULTS:
        return shaped
    request = shaped.request
    begins = request.messages[0].role if request.messages else "user"
    if defaults.system is not None and begins not in ("system", "developer"):
        message = Message("system", defaults.system)
        request = replace(request, messages=(message, *request.messages))
    if defaults.n is not None and not shaped.names_n:
        request = replace(request, n=defaults.n)
    return replace(shaped, request=request)


def _openai_batch(fields: Fields, inherited: Inherited) -> Shaped:
    """Read `{"custom_id", "method", "url", "body"}` of OpenAI's batch files."""
    extra = unknown_fields(fields, BATCH_KEYS, "")
    for name in extra:
        if name in LINE_KEYS or (name in NESTED and holds_settings(name, extra[name])):
            raise BadField(f"{name}: belongs into body")
    if "method" in fields and decode_field(fields, "method", str) != "POST":
        raise BadField("method: only POST")
    if "url" in fields:
        url = decode_field(fields, "url", str)
        if not url.endswith("/chat/completions"):
            raise BadField(f"url: only /v1/chat/completions, got {url!r}")
    body = decode_field(fields, "body", dict[str, msgspec.Raw])
    if "messages" not in body:
        raise BadField("body.messages: missing" + hint(body))
    place = SettingsPlace("body.", inherited)
    body = dict(opened(body, place))
    body_extra = unknown_fields(body, BODY_KEYS, "body.", InBody(inherited.left_out))
    for name in body_extra:
        if name in extra:
            raise BadField(f"{name}: both in the line and in its body")
    messages = with_system(body, chat_messages(body, "body.messages"), "body.")
    # not a field of OpenAI's body, so it may be beside it
    if "tool_results" in fields:
        if "tool_results" in body:
            raise BadField("tool_results: both in the line and in its body")
        body["tool_results"] = fields["tool_results"]
    together = _in_order(fields, extra, body_extra)
    return _build(body, messages, (), together, place)


def _in_order(
    fields: Fields, extra: dict[str, msgspec.Raw], body_extra: dict[str, msgspec.Raw]
) -> dict[str, msgspec.Raw]:
    """Return the unknown keys in the order of the line, those of the body at its place."""
    together: dict[str, msgspec.Raw] = {}
    for name in fields:
        together |= body_extra if name == "body" else {}
        together |= {name: extra[name]} if name in extra else {}
    return together


def _context(fields: Fields, shape_name: str) -> tuple[Message, ...]:
    """Return the messages that come before any further user turn."""
    if shape_name == "messages":
        return chat_messages(fields, "messages")
    if shape_name == "prompt":
        return (Message("user", decode_field(fields, "prompt", str)),)
    if shape_name == "conversations":
        return sharegpt_messages(decode_field(fields, "conversations", list[ShareGptTurn]))
    if shape_name == "instruction":
        return alpaca_messages(fields)
    return ()


def _build(
    fields: Fields,
    messages: tuple[Message, ...],
    turns: tuple[str, ...],
    extra: dict[str, msgspec.Raw],
    place: SettingsPlace,
) -> Shaped:
    """Check the conversation as a whole and add tools, model and settings."""
    prefix = place.prefix
    _check_order(messages, turns, prefix)
    tools = decode_field(fields, "tools", tuple[Tool, ...] | None, f"{prefix}tools") or ()
    for i, tool in enumerate(tools):
        check_tool_name(tool.function.name, f"{prefix}tools[{i}].function.name")
    if len({tool.function.name for tool in tools}) < len(tools):
        raise BadField(f"{prefix}tools: two tools have the same name")
    model = line_model(fields, place)
    settings = line_settings(fields, place)
    place.inherited.check_tools(settings, tools, prefix)
    request = Request(
        messages,
        turns,
        tools,
        settings=settings,
        n=decode_field(fields, "n", Choices | None, f"{prefix}n") or 1,
        tool_results=_tool_results(fields, tools, f"{prefix}tool_results"),
    )
    return Shaped(request, model, extra, names_n="n" in fields and bytes(fields["n"]) != b"null")


def _tool_results(fields: Fields, tools: tuple[Tool, ...], path: str) -> ToolResults | None:
    """Return the answers of the tools; anything but a text becomes its JSON."""
    kind = dict[str, msgspec.Raw] | list[msgspec.Raw] | None
    results = decode_field(fields, "tool_results", kind, path)
    if results is None:
        return None
    names = [tool.function.name for tool in tools]
    if not names:
        raise BadField(f"{path}: there are no tools")
    if isinstance(results, list):
        return tuple(_result_text(raw) for raw in results)
    for name in results:
        if name in names:
            continue
        meant = nearest(name, names)
        cure = f"did you mean {meant}?" if meant else f"must be one of {', '.join(names)}"
        raise BadField(f"{path}.{name}: no such tool; {cure}")
    return {name: _result_text(raw) for name, raw in results.items()}


def _result_text(raw: msgspec.Raw) -> str:
    text = bytes(raw).decode().strip()
    return str(decoder(str).decode(raw)) if text.startswith('"') else text


def _check_order(messages: tuple[Message, ...], turns: tuple[str, ...], prefix: str) -> None:
    """Refuse a conversation with nothing to answer, or in an impossible order."""
    if not messages and not turns:
        raise BadField(f"{prefix}messages: empty, there is nothing to answer")
    leading = True
    for i, message in enumerate(messages):
        if message.role not in ("system", "developer"):
            leading = False
        elif not leading:
            raise BadField(f"{prefix}messages[{i}].role: {message.role} must come first")
        if message.role == "user" and not message.content:
            raise BadField(f"{prefix}messages[{i}].content: empty")
    for i, turn in enumerate(turns):
        if not turn:
            raise BadField(f"{prefix}turns[{i}]: empty")
    if not turns and messages[-1].role not in ("user", "tool"):
        raise BadField(
            f"{prefix}messages: the last one is from {messages[-1].role}; "
            "there is nothing to answer"
        )
