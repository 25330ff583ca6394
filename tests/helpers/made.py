"""Values for tests: generations as an engine would return them, jobs as a store would."""

import msgspec

from mh_batch.jobs.conversation import Message, Request, ToolResults
from mh_batch.jobs.generation import (
    Channel,
    FinishReason,
    Generation,
    Parse,
    Rung,
    StopReason,
    Timings,
)
from mh_batch.jobs.record import ClaimedJob
from mh_batch.jobs.settings import Settings, apply


def generation(
    final: str | None = "answer",
    analysis: str | None = "thought",
    *,
    problems: tuple[str, ...] = (),
    stop: StopReason = StopReason.STOP_TOKEN,
    call: str | None = None,
) -> Generation:
    """A generation; `call` is the name of a function it calls."""
    channels = [Channel("analysis", analysis)] if analysis is not None else []
    if final is not None:
        channels.append(Channel("final", final))
    if call is not None:
        channels.append(Channel("commentary", "{}", f"functions.{call}", "json"))
    finish = FinishReason.TOOL_CALLS if call and not problems else FinishReason.STOP
    return Generation(
        tokens=(1, 2, 3),
        raw="raw",
        finish_reason=FinishReason.LENGTH if stop is StopReason.MAX_TOKENS else finish,
        stop_reason=stop,
        parse=Parse(1, Rung.STRICT, not problems, problems, tuple(channels)),
        prompt_tokens=10,
        prompt_sha256="00",
        timings=Timings(prompt_tokens=10, completion_tokens=3, process_memory_bytes=1000),
    )


def stuck(stop: StopReason = StopReason.MAX_TOKENS) -> Generation:
    """A generation that never came out of its analysis."""
    return generation(None, problems=("truncated", "analysis_not_ended"), stop=stop)


def cut(room: int | None = None) -> Generation:
    """A generation that ran out of tokens while it was thinking; the context holds `room` more."""
    made = generation(None, problems=("truncated",), stop=StopReason.MAX_TOKENS)
    return msgspec.structs.replace(made, room=room)


def lost() -> Generation:
    """A generation that ran out of tokens where the context ends, so that none can go on."""
    return cut(room=0)


def begun(made: Generation, *prefill: int) -> Generation:
    """A generation whose prompt had begun the answer with these tokens."""
    return msgspec.structs.replace(made, response_prefill=prefill)


def malformed() -> Generation:
    """A generation that ended by itself and does not read well."""
    return generation(problems=("junk_header",))


def claimed(
    messages: tuple[Message, ...] = (Message("user", "Hi"),),
    turns: tuple[str, ...] = (),
    n: int = 1,
    tool_results: ToolResults | None = None,
    **settings: object,
) -> ClaimedJob:
    """A job in the worker's hands."""
    return ClaimedJob(
        id=1,
        batch_id=1,
        position=1,
        custom_id="c",
        model="demo",
        request=Request(messages, turns, n=n, tool_results=tool_results),
        settings=apply(Settings(), settings),
        seed=99,
        date="2026-01-02",
    )
