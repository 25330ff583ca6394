"""Answers in JSON as a person reads them."""

import msgspec

from mh_batch.jobs.generation import Channel
from mh_batch.jobs.record import FinishedTurn


def readable_channels(turn: FinishedTurn) -> tuple[Channel, ...]:
    """Return the channels of an answer; of one that is stored parsed, the JSON is indented."""
    channels = turn.parse.channels
    if turn.parsed is None:
        return channels
    indented = msgspec.json.format(turn.parsed, indent=2)
    return tuple(
        msgspec.structs.replace(channel, text=indented) if channel.channel == "final" else channel
        for channel in channels
    )
