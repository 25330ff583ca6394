"""Lines of OpenAI's batch output, with fields of our own."""

from datetime import datetime
from typing import Any

import msgspec

from mh_batch.jobs.record import FinishedJob, FinishedTurn
from mh_batch.jobs.status import Status

from .transcript import Turns, choices, reply

Line = dict[str, Any]


def answered(job: FinishedJob) -> bool:
    """Whether the job ended with an answer, also if that is only its best attempt."""
    return bool(job.turns) and job.status in (Status.DONE, Status.INCOMPLETE)


def openai_line(job: FinishedJob) -> Line:
    """Return a line of OpenAI's batch output; a job without an answer has `error` instead.

    `mh_batch` (status and every turn) and `metadata` (the unknown keys of the input line) are
    our additions to OpenAI's keys.
    """
    return _line(job, _response(job), None) if answered(job) else error_line(job)


def error_line(job: FinishedJob) -> Line:
    """Return the line of a job without success; its turns so far are in `mh_batch`."""
    error = {
        "code": job.error_code or str(job.status),
        "message": job.error or f"the job is {job.status}",
    }
    return _line(job, None, error)


def left_out_line(job: FinishedJob) -> Line:
    """Return the line of a job whose answers were left out because they were forced."""
    message = "its answers were forced from unfinished thoughts; --rescued keep includes them"
    return _line(job, None, {"code": "rescued", "message": message})


def one_line(json: msgspec.Raw | str) -> msgspec.Raw:
    """Return JSON as it was written, but without the line breaks between its tokens.

    Texts in JSON have none; between tokens they would end the line of the output.
    """
    raw = json.encode() if isinstance(json, str) else bytes(json)
    return msgspec.Raw(raw.replace(b"\r", b" ").replace(b"\n", b" "))


def parsed(turn: FinishedTurn) -> Line:
    """Return `parsed`, the value of an answer whose form is JSON; nothing for any other."""
    return {} if turn.parsed is None else {"parsed": one_line(turn.parsed)}


def flags(turn: FinishedTurn) -> Line:
    """Return `rescued` and `problems` of an answer, each only if it applies."""
    unusual: Line = {}
    if turn.rescued:
        unusual["rescued"] = True
    if turn.parse.problems:
        unusual["problems"] = turn.parse.problems
    return unusual


def _line(job: FinishedJob, response: Line | None, error: Line | None) -> Line:
    line: Line = {
        "id": f"batch_req_{job.id}",
        "custom_id": job.custom_id,
        "response": response,
        "error": error,
        "mh_batch": {
            "batch": job.batch,
            "status": job.status,
            "error_code": job.error_code,
            "rescued": job.rescued,
            "turns": [_turn(turn) for turn in job.turns],
        },
    }
    if job.metadata is not None:
        line["metadata"] = one_line(job.metadata)
    return line


def _response(job: FinishedJob) -> Line:
    prompt = _prompt_tokens(job.turns)
    completion = sum(turn.completion_tokens for turn in job.turns)
    body = {
        "id": f"chatcmpl-{job.id}",
        "object": "chat.completion",
        "created": _unix(job.finished_at),
        "model": job.model,
        "choices": [_choice(turns[-1]) for turns in choices(job)],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        },
    }
    return {"status_code": 200, "request_id": f"job_{job.id}", "body": body}


def _prompt_tokens(turns: Turns) -> int:
    """Return the size of all prompts; the first one is common to all choices and counts once."""
    first = [t.prompt_tokens for t in turns if (t.key.turn, t.key.step) == (1, 0)]
    # what a retry added to the prompt of one choice is not the prompt of all
    return min(first) + sum(turn.prompt_tokens for turn in turns) - sum(first)


def _choice(last: FinishedTurn) -> Line:
    message: Line = {"role": "assistant", "content": last.final, **parsed(last)}
    if last.analysis is not None:
        message["reasoning_content"] = last.analysis
    if calls := reply(last).tool_calls:
        message["tool_calls"] = calls
    return {
        "index": last.key.choice,
        "message": message,
        "finish_reason": last.finish_reason,
        "logprobs": None,
    }


def _turn(turn: FinishedTurn) -> Line:
    key = {"choice": turn.key.choice, "step": turn.key.step}
    return {
        "turn": turn.key.turn,
        **{name: number for name, number in key.items() if number},
        "user": turn.user,
        "final": turn.final,
        **parsed(turn),
        "analysis": turn.analysis,
        "finish_reason": turn.finish_reason,
        "attempts": turn.attempts,
        **flags(turn),
    }


def _unix(timestamp: str | None) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp()) if timestamp else 0
