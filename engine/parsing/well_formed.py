"""Whether a completion is what Harmony says a completion looks like.

openai-harmony's strict parser is no proof: it accepts a junk word as recipient, a channel run
together with a recipient, any channel name, a generated user message, control tokens inside a
text, two finals, and a text cut off. So every reading is judged here.
"""

import json
import re
from collections.abc import Iterator, Sequence

import msgspec

from mh_batch.engine.parsing.closers import CALL, END, RETURN, STOPS
from mh_batch.jobs.conversation import TOOL_NAME_PATTERN, FunctionSpec, Tool
from mh_batch.jobs.generation import Parse, StopReason

CHANNELS = ("analysis", "commentary", "final")
_RECIPIENT = re.compile(rf"functions\.{TOOL_NAME_PATTERN.strip('^$')}\Z")
# gpt-oss writes `code` for JSON too when it calls a function off the commentary channel
_ARGUMENT_TYPES = (None, "json", "code")

PROBLEMS = {
    "empty": "there is no message at all",
    "no_header": "text without any Harmony structure",
    "no_start": "a message does not begin with <|start|>",
    "no_message_token": "nothing marks where a header ends and the text begins",
    "header_junk": "a header holds so many strange words that they may be text",
    "header_conflict": "a header names two channels",
    "not_assistant": "the model wrote a message of somebody else",
    "no_channel": "a message names no channel",
    "unknown_channel": "a channel that does not exist",
    "bad_recipient": "a recipient that is not functions.NAME",
    "bad_content_type": "a call with arguments that are not said to be JSON",
    "bad_arguments": "a call whose arguments are not a JSON object",
    "missing_argument": "a call without an argument that the function requires",
    "call_off_commentary": "a call on another channel than commentary",
    "call_not_ended": "a call that does not end on <|call|>",
    "control_in_content": "a control token or an unknown id inside a text",
    "invalid_utf8": "a text whose bytes are not whole characters",
    "wrong_stop": "a stop token behind what is neither a final text nor a call",
    "final_not_ended": "a final text that does not end on <|return|>",
    "two_finals": "more than one final text",
    "after_stop": "something follows a stop token",
    "no_final": "neither a final text nor a call",
    "empty_final": "a final text of white space only",
    "no_stop_token": "the stream stopped without its stop token",
    "truncated": "the stream was cut off",
    "analysis_not_ended": "cut off inside an analysis, from which a final answer can be forced",
    "unknown_tool": "a call of a function that the request did not declare",
    "unclosed_thinking": "reasoning that never ends",
}
"""Every code that `Parse.problems` can hold, with its meaning."""


class Section(msgspec.Struct, frozen=True):
    """One message of a completion as some reader understood it.

    `closed_by` is the id of the token that ended it, `None` if the stream was cut or another
    message began. `damage` are the problems that the reader met and could not mend.
    """

    role: str
    channel: str | None
    recipient: str | None
    content_type: str | None
    text: str
    closed_by: int | None
    damage: tuple[str, ...] = ()


def problems(sections: Sequence[Section], stop_reason: StopReason) -> tuple[str, ...]:
    """Return what is wrong with a completion, as codes of `PROBLEMS`; empty if well formed."""
    found = [code for section in sections for code in _of_section(section)]
    found += _of_whole(sections, stop_reason)
    return tuple(dict.fromkeys(found))


def analysis_not_ended(sections: Sequence[Section], stop_reason: StopReason) -> bool:
    """Whether a completion was cut off, by its length or as a loop, while still in its analysis."""
    if stop_reason not in (StopReason.MAX_TOKENS, StopReason.LOOP_DETECTED) or not sections:
        return False
    mine = [section for section in sections if section.role == "assistant"]
    if any(s.channel == "final" or s.recipient is not None for s in mine):
        return False
    last = sections[-1]
    return last.role == "assistant" and last.channel == "analysis" and last.closed_by is None


def with_tools(parse: Parse, tools: Sequence[Tool]) -> Parse:
    """Return `parse` with what is wrong with its calls of `tools` among its problems.

    `unknown_tool` for a call of none of them, `missing_argument` for one without an argument that
    the tool's schema requires. Types and values are the caller's to check.
    """
    declared = {f"functions.{tool.function.name}": tool.function for tool in tools}
    found: list[str] = []
    for call in parse.calls:
        if not _RECIPIENT.match(call.recipient or ""):
            continue
        function = declared.get(call.recipient or "")
        if function is None:
            found.append("unknown_tool")
        elif not _required(function) <= _argument_names(call.text):
            found.append("missing_argument")
    if not found:
        return parse
    problems = tuple(dict.fromkeys((*parse.problems, *found)))
    return msgspec.structs.replace(parse, well_formed=False, problems=problems)


def _required(function: FunctionSpec) -> frozenset[str]:
    """Return the arguments that a function cannot do without."""
    required = (function.parameters or {}).get("required")
    if not isinstance(required, list):
        return frozenset()
    return frozenset(name for name in required if isinstance(name, str))


def _argument_names(text: str) -> frozenset[str]:
    """Return the names of a call's arguments; none if they are no JSON object."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(arguments) if isinstance(arguments, dict) else frozenset()


def _of_section(section: Section) -> Iterator[str]:
    """Yield what is wrong with one message by itself."""
    yield from section.damage
    if section.role != "assistant":
        yield "not_assistant"
    elif section.channel is None:
        yield "no_channel"
    elif section.channel not in CHANNELS:
        yield "unknown_channel"
    elif section.recipient is not None:
        yield from _of_call(section)
    elif section.channel == "final":
        if section.closed_by not in (RETURN, None):
            yield "final_not_ended"
    elif section.closed_by not in (END, None):
        yield "wrong_stop"


def _of_call(section: Section) -> Iterator[str]:
    """Yield what is wrong with a message that has a recipient."""
    if not _RECIPIENT.match(section.recipient or ""):
        yield "bad_recipient"
    elif section.channel != "commentary":
        yield "call_off_commentary"
    elif section.closed_by is not None:
        if section.closed_by != CALL:
            yield "call_not_ended"
        if section.content_type not in _ARGUMENT_TYPES:
            yield "bad_content_type"
        if not _is_json_object(section.text):
            yield "bad_arguments"


def _is_json_object(text: str) -> bool:
    """Whether `text` is one JSON object."""
    try:
        return isinstance(json.loads(text, parse_constant=_refuse), dict)
    except (ValueError, RecursionError):
        return False


def _refuse(constant: str) -> None:
    """Refuse NaN and the infinities, which Python reads but JSON does not have."""
    raise ValueError(constant)


def _of_whole(sections: Sequence[Section], stop_reason: StopReason) -> Iterator[str]:
    """Yield what is wrong with the messages together."""
    if not sections:
        yield "empty"
    mine = [section for section in sections if section.role == "assistant"]
    finals = [s for s in mine if s.channel == "final" and s.recipient is None]
    if len(finals) > 1:
        yield "two_finals"
    if not finals and not any(section.recipient is not None for section in mine):
        yield "no_final"
    if any(not section.text.strip() for section in finals):
        yield "empty_final"
    if any(section.closed_by in STOPS for section in sections[:-1]):
        yield "after_stop"
    if stop_reason is StopReason.STOP_SEQUENCE:
        if not sections or sections[-1] not in finals or sections[-1].closed_by is not None:
            yield "truncated"
    elif stop_reason is not StopReason.STOP_TOKEN:
        yield "truncated"
    elif sections and sections[-1].closed_by not in STOPS:
        yield "no_stop_token"
