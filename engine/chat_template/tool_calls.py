"""Tool calls in the text of models that are not gpt-oss, by mlx-lm's parsers.

Each family writes calls between two markers, in its own notation; mlx-lm derives it from the chat
template. The text around the calls is kept as well, and calls that do not parse.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from mh_batch.engine.parsing.message import CALL, END, ParsedMessage
from mh_batch.engine.parsing.text import clean
from mh_batch.jobs.conversation import Tool

# types in these notations come from the schema of the function that is called
_NEEDS_SCHEMA = ("glm47", "laguna", "longcat", "minicpm5", "minimax_m2", "qwen3_coder")

_UNKNOWN = "unknown_tool"
_NAME = re.compile(r'"name"\s*:\s*"([A-Za-z0-9_-]{1,64})"')


class Notation(NamedTuple):
    """How a family writes calls: the markers around them, and what reads the text between.

    An empty `end` is the end of the completion. `parse` takes the text and the request's tools in
    OpenAI's format. It returns one call or several, as objects with `name` and `arguments`, and
    raises anything where the text is no call. With `needs_schema`, only the schema of a function
    says what its arguments mean ("5" may be a number): a call of any other stays text.
    """

    start: str
    end: str
    parse: Callable[[str, list[dict[str, Any]]], Any]
    needs_schema: bool = False

    def can_read(self, tools: Sequence[Tool]) -> bool:
        """Whether there can be calls where these tools are declared."""
        return bool(tools) or not self.needs_schema


class AnswerPart(NamedTuple):
    """A part of an answer: text, or what stands between the markers of a call.

    `ended` is whether the call's closing marker was there.
    """

    text: str
    is_call: bool
    ended: bool = True


def notation(tokenizer: Any) -> Notation | None:
    """Return how the model of mlx-lm's `tokenizer` writes calls, `None` if mlx-lm does not know."""
    parse = tokenizer.tool_parser
    if not tokenizer.has_tool_calling or parse is None:
        return None
    needs_schema = parse.__module__.rpartition(".")[2] in _NEEDS_SCHEMA
    return Notation(tokenizer.tool_call_start, tokenizer.tool_call_end, parse, needs_schema)


def call_messages(
    answer: str, how: Notation, closed_by: int | None, tools: Sequence[Tool] = ()
) -> list[ParsedMessage]:
    """Return an answer with calls in it as messages, the texts around them as commentary.

    `closed_by` is what ended the completion, `None` if it was cut. A call that cannot be read
    keeps its text and has the defect `bad_arguments`. One that stays text for want of a schema
    has the defect `unknown_tool`; where there are no others, all of the answer is the final text.
    """
    declared = _Declared(tools)
    messages: list[ParsedMessage] = []
    for part in _answer_parts(answer, how):
        if not part.is_call:
            messages.append(_commentary(part.text.strip(), closed_by=END))
        elif not part.ended and closed_by is None:
            messages.append(
                _commentary(part.text)
            )  # cut off inside the call, which the parse says already
        else:
            messages += _calls(part, how, declared)
    if any(_UNKNOWN in m.defects for m in messages) and not any(m.recipient for m in messages):
        return [ParsedMessage("assistant", "final", None, None, answer, closed_by, (_UNKNOWN,))]
    if closed_by is not None:
        last = messages[-1]
        well_ended = last.recipient is not None and answer.rstrip().endswith(how.end)
        messages[-1] = msgspec.structs.replace(last, closed_by=CALL if well_ended else closed_by)
    return messages


def _answer_parts(answer: str, how: Notation) -> Iterator[AnswerPart]:
    """Yield the texts and the calls of an answer, in order; white space between them is none."""
    before, marker, rest = answer.partition(how.start)
    while True:
        if before.strip():
            yield AnswerPart(before, is_call=False)
        if not marker:
            return
        inside, ending, after = rest.partition(how.end) if how.end else (rest, "", "")
        yield AnswerPart(inside, is_call=True, ended=bool(ending) or not how.end)
        before, marker, rest = after.partition(how.start)


def _calls(part: AnswerPart, how: Notation, declared: "_Declared") -> list[ParsedMessage]:
    """Return the calls that a part holds, or its text with a defect."""
    try:
        found = how.parse(part.text, declared.tools)
        calls = [_call(call) for call in (found if isinstance(found, list) else [found])]
    # mlx-lm's parsers raise anything: AttributeError, RecursionError, ...
    except Exception:  # noqa: BLE001
        calls = []
    if how.needs_schema and not declared.recipients.issuperset(c.recipient for c in calls):
        whole = f"{how.start}{part.text}{how.end if part.ended else ''}"
        return [ParsedMessage("assistant", "commentary", None, None, whole, END, (_UNKNOWN,))]
    return calls or [_unreadable(part.text)]


class _Declared:
    """The tools of a request: as mlx-lm's parsers take them, and as calls name them."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools: list[dict[str, Any]] = [
            # mlx-lm expects all of these names
            {"type": "function", "function": msgspec.structs.asdict(tool.function)}
            for tool in tools
        ]
        self.recipients = frozenset(f"functions.{tool.function.name}" for tool in tools)


def _unreadable(text: str) -> ParsedMessage:
    """Return a call that cannot be read, all of its text kept; to a function if it names one."""
    name = _NAME.search(text)
    recipient = f"functions.{name[1]}" if name else None
    return ParsedMessage("assistant", "commentary", recipient, None, text, None, ("bad_arguments",))


def _call(call: Any) -> ParsedMessage:
    """Return one call as a message; raises `ValueError` or `TypeError` if it is none."""
    name, arguments = call["name"], call["arguments"]
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise TypeError("a call is a name and an object of arguments")
    # JSON can hold a lone surrogate, which neither a frame nor the database takes
    text = clean(json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    return ParsedMessage("assistant", "commentary", f"functions.{name}", "json", text, None)


def _commentary(text: str, closed_by: int | None = None) -> ParsedMessage:
    return ParsedMessage("assistant", "commentary", None, None, text, closed_by)
