"""Whether a tool call is well formed, and a call of a function that the request declared."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from mh_batch.jobs.conversation import TOOL_NAME_PATTERN, FunctionSpec, Tool
from mh_batch.jobs.generation import Parse

from .message import CALL, ParsedMessage

_RECIPIENT = re.compile(rf"functions\.{TOOL_NAME_PATTERN.strip('^$')}\Z")
# gpt-oss writes `code` for JSON too when it calls a function off the commentary channel
_ARGUMENT_TYPES = (None, "json", "code")


def call_problems(call: ParsedMessage) -> Iterator[str]:
    """Yield what is wrong with a message that has a recipient."""
    if not _RECIPIENT.match(call.recipient or ""):
        yield "bad_recipient"
    elif call.channel != "commentary":
        yield "call_off_commentary"
    elif call.closed_by is not None:
        if call.closed_by != CALL:
            yield "call_not_ended"
        if call.content_type not in _ARGUMENT_TYPES:
            yield "bad_content_type"
        if _json_object(call.text, _refuse) is None:
            yield "bad_arguments"


def check_calls(parse: Parse, tools: Sequence[Tool]) -> Parse:
    """Return `parse` with the problems of its calls added, as far as `tools` show them.

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
        elif not _required(function) <= (_json_object(call.text) or {}).keys():
            found.append("missing_argument")
    if not found:
        return parse
    problems = tuple(dict.fromkeys((*parse.problems, *found)))
    return msgspec.structs.replace(parse, well_formed=False, problems=problems)


def _required(function: FunctionSpec) -> frozenset[str]:
    """Return the names of the arguments that the function's schema requires."""
    required = (function.parameters or {}).get("required")
    if not isinstance(required, list):
        return frozenset()
    return frozenset(name for name in required if isinstance(name, str))


def _json_object(
    text: str, parse_constant: Callable[[str], object] | None = None
) -> dict[str, Any] | None:
    """Return the object that `text` is in JSON, `None` if it is none."""
    try:
        value = json.loads(text, parse_constant=parse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> None:
    """Refuse NaN and the infinities, which Python reads but JSON does not have."""
    raise ValueError(constant)
