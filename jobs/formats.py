"""Finished jobs as JSON lines that other tools read."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from .conversation import Message
from .record import FinishedJob, FinishedTurn, assistant_message
from .status import FINISHED, Status

Line = dict[str, Any]


def openai_line(job: FinishedJob) -> Line:
    """Return a line of OpenAI's batch output; a job without an answer has `error` instead.

    `mh_batch` (status and every turn) and `metadata` (the unknown keys of the input line) are
    additions of ours beside OpenAI's keys.
    """
    answered = bool(job.turns) and job.status in (Status.DONE, Status.INCOMPLETE)
    line: Line = {
        "id": f"batch_req_{job.id}",
        "custom_id": job.custom_id,
        "response": _response(job) if answered else None,
        "error": None if answered else _error(job),
        "mh_batch": {
            "batch": job.batch,
            "status": job.status,
            "error_code": job.error_code,
            "turns": [_turn(turn) for turn in job.turns],
        },
    }
    if job.metadata is not None:
        line["metadata"] = job.metadata
    return line


def messages_line(job: FinishedJob) -> Line:
    """Return the whole conversation as chat messages, reasoning as `thinking`."""
    messages = list(job.request.messages)
    for turn in job.turns:
        if turn.place.turn > 1 or not job.request.asks:
            messages.append(Message("user", turn.user or ""))
        messages.append(reply(turn))
    line: Line = {"custom_id": job.custom_id, "messages": messages, "status": job.status}
    if job.metadata is not None:
        line["metadata"] = job.metadata
    return line


def reply(turn: FinishedTurn) -> Message:
    """Return the assistant's message of a turn."""
    return assistant_message(turn.place, turn.final, turn.analysis, turn.parse)


class Format(msgspec.Struct, frozen=True):
    """How one format turns a job into a line, and which jobs it gives unless told otherwise."""

    line: Callable[[FinishedJob], Line]
    statuses: frozenset[Status]


FORMATS: dict[str, Format] = {
    "openai": Format(openai_line, FINISHED),
    # a data set to train on: only what went well, unless asked for
    "messages": Format(messages_line, frozenset({Status.DONE})),
}


def _response(job: FinishedJob) -> Line:
    last = job.turns[-1]
    calls = reply(last).tool_calls
    message: Line = {"role": "assistant", "content": last.final}
    if last.analysis is not None:
        message["reasoning_content"] = last.analysis
    if calls:
        message["tool_calls"] = calls
    prompt = sum(turn.prompt_tokens for turn in job.turns)
    completion = sum(turn.completion_tokens for turn in job.turns)
    body = {
        "id": f"chatcmpl-{job.id}",
        "object": "chat.completion",
        "created": _unix(job.finished_at),
        "model": job.model,
        "choices": [
            {
                "index": last.place.choice,
                "message": message,
                "finish_reason": last.finish_reason,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        },
    }
    return {"status_code": 200, "request_id": f"job_{job.id}", "body": body}


def _error(job: FinishedJob) -> Line:
    return {
        "code": job.error_code or str(job.status),
        "message": job.error or f"the job is {job.status}",
    }


def _turn(turn: FinishedTurn) -> Line:
    return {
        "turn": turn.place.turn,
        "user": turn.user,
        "final": turn.final,
        "analysis": turn.analysis,
        "finish_reason": turn.finish_reason,
        "attempts": turn.attempts,
    }


def _unix(timestamp: str | None) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp()) if timestamp else 0
