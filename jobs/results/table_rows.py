"""Finished jobs as rows with typed columns, for Parquet and JSON."""

from collections.abc import Iterator
from typing import Any

import msgspec

from mh_batch.jobs.conversation import Message, ToolCall
from mh_batch.jobs.record import FinishedJob

from .batch_output import one_line
from .transcript import TranscriptEntry, choices, decode_speed_of, transcript

Row = dict[str, Any]


def table_rows(job: FinishedJob) -> Iterator[Row]:
    """Yield a row for each choice of a job, one for a job without an answer.

    `messages` is the conversation with its answers. `tools_json` and `metadata` are JSON texts.
    """
    for turns in choices(job) or ((),):
        last = turns[-1] if turns else None
        yield {
            "custom_id": job.custom_id,
            "choice": last.key.choice if last else 0,
            "status": str(job.status),
            "final": last and last.final,
            "analysis": last and last.analysis,
            "messages": _messages(transcript(job.request, turns) if turns else _asked(job)),
            "tools_json": _json(job.request.tools) if job.request.tools else None,
            "finish_reason": last and last.finish_reason,
            "rescued": any(turn.rescued for turn in turns),
            "error_code": job.error_code,
            "error": job.error,
            "model": job.model,
            "turns": len(turns),
            "attempts": sum(turn.attempts for turn in turns),
            "prompt_tokens": sum(turn.prompt_tokens for turn in turns),
            "completion_tokens": sum(turn.completion_tokens for turn in turns),
            "prefill_seconds": sum(turn.prefill_seconds for turn in turns),
            "decode_seconds": sum(turn.machine_seconds for turn in turns),
            "tokens_per_second": decode_speed_of(turns),
            "finished_at": job.finished_at,
            "batch": job.batch,
            "batch_id": job.batch_id,
            "job_id": job.id,
            "position": job.position,
            "metadata": None if job.metadata is None else _text(one_line(job.metadata)),
        }


def _asked(job: FinishedJob) -> tuple[TranscriptEntry, ...]:
    """Return the conversation as it was asked, all of its turns without answers."""
    turns = (Message("user", text) for text in job.request.turns)
    return tuple(TranscriptEntry(message) for message in (*job.request.messages, *turns))


def _messages(said: tuple[TranscriptEntry, ...]) -> list[Row]:
    """Return messages with the same keys each; reasoning only since the last question."""
    asked = max((i for i, s in enumerate(said) if s.message.role == "user"), default=0)
    return [
        {
            "role": entry.message.role,
            "content": entry.message.content,
            "thinking": (entry.message.thinking or None) if i > asked else None,
            "name": entry.message.name,
            "tool_calls": [_call(call) for call in entry.message.tool_calls] or None,
            "tool_call_id": entry.message.tool_call_id,
        }
        for i, entry in enumerate(said)
    ]


def _call(call: ToolCall) -> Row:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": call.type, "function": function}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode()
