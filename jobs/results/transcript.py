"""A finished conversation as a list of messages, one choice at a time."""

from itertools import groupby, zip_longest

import msgspec

from mh_batch.jobs.conversation import Message, Request, answers
from mh_batch.jobs.generation import decode_speed, decoded_tokens
from mh_batch.jobs.record import FinishedJob, FinishedTurn, assistant_message

Turns = tuple[FinishedTurn, ...]


class TranscriptEntry(msgspec.Struct, frozen=True):
    """One message; `turn` is the step that generated it, `None` for one of the request."""

    message: Message
    turn: FinishedTurn | None = None


def choices(job: FinishedJob) -> tuple[Turns, ...]:
    """Return the steps of each completion of the job's prompt; none for a job without answers."""
    return tuple(tuple(steps) for _, steps in groupby(job.turns, key=lambda turn: turn.key.choice))


def decode_speed_of(turns: Turns) -> float | None:
    """Return the tokens per second of some answers; `None` if nothing was drawn for them."""
    drawn = (turn.completion_tokens - turn.opened_tokens for turn in turns)
    return decode_speed(sum(map(decoded_tokens, drawn)), sum(t.machine_seconds for t in turns))


def reply(turn: FinishedTurn) -> Message:
    """Return the assistant's message of a step."""
    return assistant_message(turn.key, turn.final, turn.analysis, turn.parse)


def transcript(request: Request, turns: Turns) -> tuple[TranscriptEntry, ...]:
    """Return the context and, for each step of one choice, what it answers and its reply.

    It is what the model saw: a call without an answer is left out of what follows it.
    """
    said = [TranscriptEntry(message) for message in request.messages]
    used = 0
    for turn, following in zip_longest(turns, turns[1:]):
        # the first turn may answer the context's own last message
        if turn.key.step == 0 and (turn.key.turn > 1 or not request.asks):
            said.append(TranscriptEntry(Message("user", turn.user or "")))
        message = reply(turn)
        answered = following is not None and following.key.step > 0
        if following is not None and not answered:
            message = msgspec.structs.replace(message, tool_calls=())
        said.append(TranscriptEntry(message, turn))
        if answered and request.tool_results is not None:
            found = answers(message.tool_calls, request.tool_results, used) or ()
            used += len(found)
            said += [TranscriptEntry(result) for result in found]
    return tuple(said)
