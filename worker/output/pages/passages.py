"""A conversation as passages of bounded length, for the pages."""

from collections.abc import Iterable, Iterator

import msgspec

from mh_batch.jobs.conversation import Message
from mh_batch.jobs.record import FinishedJob, FinishedTurn
from mh_batch.jobs.results.transcript import choices, transcript
from mh_batch.worker.output.json_answer import readable_channels

MOST_CHARACTERS = 4000
SHOWN_ENDS = 20
"""How many texts of a long conversation are shown at its beginning, and how many at its end."""

_Turns = dict[int, list[FinishedTurn]]


class Passage(msgspec.Struct, frozen=True):
    """One text of a conversation; `more` counts the characters that were left out.

    `cut` is the answer that ended at its limit.
    """

    who: str
    text: str
    more: int
    is_thought: bool
    cut: bool = False


class Reading(msgspec.Struct, frozen=True):
    """A conversation to read: its beginning and its end, and how much is left out between them."""

    begin: tuple[Passage, ...]
    end: tuple[Passage, ...] = ()
    left_out: int = 0
    characters: int = 0


class Exchange(msgspec.Struct, frozen=True):
    """One turn of two jobs with the same prompt: what was asked, and both answers."""

    asked: str | None
    a: tuple[Passage, ...]
    b: tuple[Passage, ...]


def reading(job: FinishedJob) -> Reading:
    """Return a job's first completion; the middle of a long conversation is left out."""
    said = tuple(conversation(job))
    if len(said) <= 2 * SHOWN_ENDS:
        return Reading(said)
    middle = said[SHOWN_ENDS:-SHOWN_ENDS]
    characters = sum(len(passage.text) + passage.more for passage in middle)
    return Reading(said[:SHOWN_ENDS], said[-SHOWN_ENDS:], len(middle), characters)


def conversation(job: FinishedJob) -> Iterator[Passage]:
    """Yield the messages of a job's first completion, long texts shortened."""
    for entry in transcript(job.request, _first_choice(job)):
        if entry.turn is None:
            yield from of_message(entry.message)
        else:
            yield from of_turn(entry.turn)


def exchanges(a: FinishedJob, b: FinishedJob) -> tuple[Exchange, ...]:
    """Return the turns that either job has answered, in order; first completions only.

    What the context itself asks is not among them.
    """
    left, right = _by_turn(a), _by_turn(b)
    return tuple(
        Exchange(
            None if turn == 1 and a.request.asks else _asked(left, right, turn),
            tuple(_of_turns(left.get(turn, ()))),
            tuple(_of_turns(right.get(turn, ()))),
        )
        for turn in sorted({*left, *right})
    )


def of_message(message: Message) -> Iterator[Passage]:
    """Yield the texts of a message that was given."""
    if message.thinking:
        yield _passage(f"{message.role}, analysis", message.thinking)
    if message.content or not message.tool_calls:
        yield _passage(f"{message.role} {message.name or ''}".strip(), message.content)
    for call in message.tool_calls:
        yield _passage(f"{message.role} calls {call.function.name}", call.function.arguments)


def of_turn(turn: FinishedTurn) -> Iterator[Passage]:
    """Yield the channels of an answer; if it was cut, its last one is marked."""
    channels = readable_channels(turn)
    for number, channel in enumerate(channels, start=1):
        to = f" to {channel.recipient}" if channel.recipient else ""
        cut = turn.cut and number == len(channels)
        yield _passage(f"assistant, {channel.channel}{to}", channel.text, cut)


def _of_turns(turns: Iterable[FinishedTurn]) -> Iterator[Passage]:
    for turn in turns:
        yield from of_turn(turn)


def _asked(left: _Turns, right: _Turns, turn: int) -> str | None:
    answered = (*left.get(turn, ()), *right.get(turn, ()))
    return next((one.user for one in answered if one.user), None)


def _by_turn(job: FinishedJob) -> _Turns:
    found: _Turns = {}
    for turn in _first_choice(job):
        found.setdefault(turn.key.turn, []).append(turn)
    return found


def _first_choice(job: FinishedJob) -> tuple[FinishedTurn, ...]:
    return next(iter(choices(job)), ())


def _passage(who: str, text: str, cut: bool = False) -> Passage:
    more = max(0, len(text) - MOST_CHARACTERS)
    return Passage(who, text[:MOST_CHARACTERS], more, "analysis" in who, cut)
