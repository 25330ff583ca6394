"""Whether a completion has the form that Harmony prescribes.

openai-harmony's strict parser is no proof: it accepts a junk word as recipient, a channel run
together with a recipient, any channel name, a generated user message, control tokens inside a
text, two finals, and a text cut off. So the result of every parser is judged here.
"""

from collections.abc import Iterator, Sequence

from mh_batch.jobs.generation import StopReason

from .calls import call_problems
from .message import CHANNELS, END, RETURN, STOPS, ParsedMessage


def find_problems(messages: Sequence[ParsedMessage], stop_reason: StopReason) -> tuple[str, ...]:
    """Return what is wrong with a completion, as codes (docs/formats.md); empty if well formed."""
    found = [code for message in messages for code in _of_message(message)]
    found += _of_whole(messages, stop_reason)
    return tuple(dict.fromkeys(found))


def analysis_not_ended(messages: Sequence[ParsedMessage], stop_reason: StopReason) -> bool:
    """Whether a completion was cut off, by its length or as a loop, while still in its analysis."""
    if stop_reason not in (StopReason.MAX_TOKENS, StopReason.LOOP_DETECTED) or not messages:
        return False
    mine = [message for message in messages if message.role == "assistant"]
    if any(s.channel == "final" or s.recipient is not None for s in mine):
        return False
    last = messages[-1]
    return last.role == "assistant" and last.channel == "analysis" and last.closed_by is None


def _of_message(message: ParsedMessage) -> Iterator[str]:
    """Yield what is wrong with one message by itself."""
    yield from message.defects
    if message.role != "assistant":
        yield "not_assistant"
    elif message.channel is None:
        yield "no_channel"
    elif message.channel not in CHANNELS:
        yield "unknown_channel"
    elif message.recipient is not None:
        yield from call_problems(message)
    elif message.channel == "final":
        if message.closed_by not in (RETURN, None):
            yield "final_not_ended"
    elif message.closed_by not in (END, None):
        yield "wrong_stop"


def _of_whole(messages: Sequence[ParsedMessage], stop_reason: StopReason) -> Iterator[str]:
    """Yield what is wrong with the messages together."""
    if not messages:
        yield "empty"
    mine = [message for message in messages if message.role == "assistant"]
    finals = [s for s in mine if s.channel == "final" and s.recipient is None]
    if len(finals) > 1:
        yield "two_finals"
    if not finals and not any(message.recipient is not None for message in mine):
        yield "no_final"
    if any(not message.text.strip() for message in finals):
        yield "empty_final"
    if any(message.closed_by in STOPS for message in messages[:-1]):
        yield "after_stop"
    if stop_reason is StopReason.STOP_SEQUENCE:
        if not messages or messages[-1] not in finals or messages[-1].closed_by is not None:
            yield "truncated"
    elif stop_reason is not StopReason.STOP_TOKEN:
        yield "truncated"
    elif messages and messages[-1].closed_by not in STOPS:
        yield "no_stop_token"
