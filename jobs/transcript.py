"""A finished conversation in the order in which it was said, one choice at a time."""

from itertools import groupby, zip_longest

import msgspec

from .conversation import Message, Request
from .record import FinishedJob, FinishedTurn, assistant_message
from .tool_results import answers

Turns = tuple[FinishedTurn, ...]


class Said(msgspec.Struct, frozen=True):
    """One message; `turn` is the step it was generated in, `None` for what was given."""

    message: Message
    turn: FinishedTurn | None = None


def choices(job: FinishedJob) -> tuple[Turns, ...]:
    """Return the steps of each completion of the job's prompt; none for a job without answers."""
    return tuple(
        tuple(steps) for _, steps in groupby(job.turns, key=lambda turn: turn.place.choice)
    )


def reply(turn: FinishedTurn) -> Message:
    """Return the assistant's message of a step."""
    return assistant_message(turn.place, turn.final, turn.analysis, turn.parse)


def transcript(request: Request, turns: Turns) -> tuple[Said, ...]:
    """Return the context and, for each step of one choice, what it answers and its reply.

    It is what the model saw: a call that nobody answered has no place in what came after it.
    """
    said = [Said(message) for message in request.messages]
    used = 0
    for turn, following in zip_longest(turns, turns[1:]):
        # the first turn may answer the context's own last message
        if turn.place.step == 0 and (turn.place.turn > 1 or not request.asks):
            said.append(Said(Message("user", turn.user or "")))
        message = reply(turn)
        answered = following is not None and following.place.step > 0
        if following is not None and not answered:
            message = msgspec.structs.replace(message, tool_calls=())
        said.append(Said(message, turn))
        if answered and request.tool_results is not None:
            found = answers(message.tool_calls, request.tool_results, used) or ()
            used += len(found)
            said += [Said(result) for result in found]
    return tuple(said)
