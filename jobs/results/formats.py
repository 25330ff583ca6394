"""Finished jobs as rows for other tools: batch output, training data, a spreadsheet."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Literal

import msgspec

from mh_batch.jobs.conversation import Message, ToolCall
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.record import FinishedJob
from mh_batch.jobs.status import FINISHED, Status

from .batch_output import Line, flags, one_line, openai_line
from .selection import Rescued
from .table_rows import table_rows
from .transcript import TranscriptEntry, Turns, choices, decode_speed_of, transcript

SHAREGPT_SPEAKERS = {
    "system": "system",
    "developer": "system",
    "user": "human",
    "assistant": "gpt",
    "tool": "observation",
}

CSV_COLUMNS = (
    *("batch", "batch_id", "job_id", "position", "custom_id", "status", "model", "final"),
    *("analysis", "finish_reason", "turns", "tokens", "tokens_per_second", "error_code", "error"),
    *("finished_at", "metadata", "rescued", "parsed"),
)
"""The columns of the view `results`."""


Ending = Literal["jsonl", "csv", "parquet", "json"]


class Format(msgspec.Struct, frozen=True):
    """How one format turns a job into rows, and which jobs it has by default.

    `columns` are those of a CSV file, `None` for JSON lines. `omits` says which answers have no
    row in the format, `None` if all have one. `rescued` is the default for conversations with
    forced answers. `ending` is that of its files: `jsonl` has a row a line, `json` an array.
    """

    rows: Callable[[FinishedJob], Iterator[Line]]
    statuses: frozenset[Status]
    columns: tuple[str, ...] | None = None
    omits: str | None = None
    rescued: Rescued = "keep"
    ending: Ending = "jsonl"


def openai_rows(job: FinishedJob) -> Iterator[Line]:
    """Yield the job's one line of batch output."""
    yield openai_line(job)


def messages_rows(job: FinishedJob) -> Iterator[Line]:
    """Yield a row for each assistant message: the conversation up to and including it.

    The last message is what to train on. As in Harmony, reasoning (`thinking`) is kept only after
    the last user message: in the last message, and in the tool calls that led to it.
    """
    for turns in choices(job):
        said = transcript(job.request, turns)
        for end, one in enumerate(said, start=1):
            if one.turn is not None:
                key = {"turn": one.turn.key.turn, "step": one.turn.key.step}
                row = {"messages": _chat(said[:end]), **_tools(job), **key}
                yield row | flags(one.turn) | _about(job, turns)


def completion_rows(job: FinishedJob) -> Iterator[Line]:
    """Yield a pair for each answer to a question without a history.

    The answer of a later turn, or after a tool, has no row. A system message is put before the
    question, separated by an empty line.
    """
    for turns in choices(job):
        said = transcript(job.request, turns)
        first = next(i for i, s in enumerate(said) if s.turn is not None)
        before = [s.message for s in said[:first]]
        roles = [message.role for message in before]
        alone = roles.count("user") == 1 and not {"assistant", "tool"} & set(roles)
        if not alone or said[first].message.tool_calls or turns[0].final is None:
            continue
        prompt = "\n\n".join(message.content for message in before)
        row = {"prompt": prompt, "completion": turns[0].final, **_tools(job)}
        yield row | flags(turns[0]) | _about(job, turns)


def sharegpt_rows(job: FinishedJob) -> Iterator[Line]:
    """Yield the whole conversation as ShareGPT's `conversations`, without reasoning."""
    for turns in choices(job):
        said = transcript(job.request, turns)
        row = {"conversations": [e for s in said for e in _entries(s.message)], **_tools(job)}
        marked: Line = {"rescued": True} if any(turn.rescued for turn in turns) else {}
        yield row | marked | _about(job, turns)


def csv_rows(job: FinishedJob) -> Iterator[Line]:
    """Yield the columns that the view `results` has of the job."""
    for turns in choices(job) or ((),):
        last = turns[-1] if turns else None
        row = {
            "batch": job.batch,
            "batch_id": job.batch_id,
            "job_id": job.id,
            "position": job.position,
            "custom_id": job.custom_id,
            "status": str(job.status),
            "model": job.model,
            "final": last and last.final,
            "analysis": last and last.analysis,
            "finish_reason": last and last.finish_reason,
            "turns": len(turns),
            "tokens": sum(turn.completion_tokens for turn in turns) if turns else None,
            "tokens_per_second": decode_speed_of(turns),
            "error_code": job.error_code,
            "error": job.error,
            "finished_at": job.finished_at,
            "metadata": None if job.metadata is None else bytes(job.metadata).decode(),
            "rescued": int(any(turn.rescued for turn in turns)),
            "parsed": last and last.parsed,
        }
        yield row | _choice(job, turns)


FORMATS: dict[str, Format] = {
    "openai": Format(openai_rows, FINISHED),
    # training data: only jobs that are done, unless asked for others
    "messages": Format(messages_rows, frozenset({Status.DONE}), rescued="drop"),
    "completion": Format(
        completion_rows,
        frozenset({Status.DONE}),
        omits="a pair holds one question without a history; --format messages has them",
        rescued="drop",
    ),
    "sharegpt": Format(sharegpt_rows, frozenset({Status.DONE}), rescued="drop"),
    "csv": Format(csv_rows, FINISHED, CSV_COLUMNS, ending="csv"),
    "parquet": Format(table_rows, FINISHED, ending="parquet"),
    "json": Format(table_rows, FINISHED, ending="json"),
}


_BY_ENDING = {"csv": "csv", "parquet": "parquet", "pq": "parquet", "json": "json"}
_NOT_WRITTEN = frozenset(
    {"tsv", "xlsx", "xls", "arrow", "feather", "gz", "bz2", "xz", "zst", "zip"}
)


def format_of(output: str) -> str:
    """Return the format of a file by its ending; `openai` for one that says nothing.

    Raises `InputError` for the ending of something that is not written.
    """
    ending = output.rpartition(".")[2].lower()
    if ending in _NOT_WRITTEN:
        raise InputError(f"{output}: .{ending} is not written; --format says what goes into it")
    return _BY_ENDING.get(ending, "openai")


def _tools(job: FinishedJob) -> Line:
    return {"tools": job.request.tools} if job.request.tools else {}


def _about(job: FinishedJob, turns: Turns) -> Line:
    """Return the fields about the job that every row of a data set has."""
    about: Line = {"custom_id": job.custom_id, "status": job.status, **_choice(job, turns)}
    if job.metadata is not None:
        about["metadata"] = one_line(job.metadata)
    return about


def _choice(job: FinishedJob, turns: Turns) -> Line:
    """Return which choice it is, where the job has several."""
    return {"choice": turns[0].key.choice} if job.request.n > 1 and turns else {}


def _chat(said: Sequence[TranscriptEntry]) -> list[Line]:
    """Return messages as chat templates read them, with the reasoning since the last question."""
    asked = max((i for i, s in enumerate(said) if s.message.role == "user"), default=0)
    return [_chat_message(s.message, thinks=i > asked) for i, s in enumerate(said)]


def _chat_message(message: Message, thinks: bool) -> Line:
    line: Line = {"role": message.role, "content": message.content}
    if message.thinking and thinks:
        line["thinking"] = message.thinking
    if message.name is not None:
        line["name"] = message.name
    if message.tool_calls:
        line["tool_calls"] = [_chat_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        line["tool_call_id"] = message.tool_call_id
    return line


def _chat_call(call: ToolCall) -> Line:
    return {"id": call.id, "type": call.type, "function": _function(call)}


def _function(call: ToolCall) -> Line:
    """Return a call with its arguments decoded, since chat templates encode them themselves."""
    arguments: str | msgspec.Raw = call.function.arguments
    # anything but an object stays the text that the model wrote
    with suppress(msgspec.DecodeError, RecursionError):
        msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
        arguments = one_line(arguments)
    return {"name": call.function.name, "arguments": arguments}


def _entries(message: Message) -> Iterator[Line]:
    """Yield the entries of a message: its text, and one for each tool call."""
    if message.content or not message.tool_calls:
        yield {"from": SHAREGPT_SPEAKERS[message.role], "value": message.content}
    for call in message.tool_calls:
        value = msgspec.json.encode(_function(call)).decode()
        yield {"from": "function_call", "value": value}
