"""Selects finished jobs by status, by how their answer ended, and by metadata."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, TypeVar

import msgspec

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.generation import FinishReason
from mh_batch.jobs.record import FinishedJob
from mh_batch.jobs.status import FINISHED, Status

from .transcript import choices

Named = TypeVar("Named", bound=StrEnum)
Rescued = Literal["keep", "drop", "only"]
"""What to do with conversations that have an answer forced from unfinished thoughts."""


class Selection(msgspec.Struct, frozen=True):
    """Filters that must all match; `None` and an empty `where` match everything.

    `where` are pairs of a key of the metadata and the text its value must have. `rescued` says
    what to do with conversations that have forced answers; `None` leaves it to the format.
    """

    statuses: frozenset[Status] | None = None
    finish_reasons: frozenset[FinishReason] | None = None
    where: tuple[tuple[str, str], ...] = ()
    rescued: Rescued | None = None

    @classmethod
    def parse(
        cls,
        statuses: str | None,
        finish_reasons: str | None,
        where: Sequence[str],
        rescued: str | None = None,
    ) -> "Selection":
        """Build a selection from the options; raises `InputError` naming the allowed values."""
        return cls(
            names_in("--status", statuses, Status, FINISHED),
            names_in("--finish-reason", finish_reasons, FinishReason, frozenset(FinishReason)),
            tuple(_pair(text) for text in where),
            None if rescued is None else rescued_in(rescued),
        )

    def matches(self, job: FinishedJob) -> bool:
        """Whether the metadata has the values of `where`."""
        metadata = msgspec.Raw(b"{}") if job.metadata is None else job.metadata
        return all(wanted in _texts(metadata, key) for key, wanted in self.where)

    def answers(self, job: FinishedJob) -> FinishedJob:
        """Return the job with only the choices whose last answer ended as selected."""
        if self.finish_reasons is None:
            return job
        ends = {turn.key.choice: turn.finish_reason for turn in job.turns}
        kept = tuple(t for t in job.turns if ends[t.key.choice] in self.finish_reasons)
        return msgspec.structs.replace(job, turns=kept)


def choose(job: FinishedJob, rescued: Rescued) -> FinishedJob | None:
    """Return the job with the conversations that `rescued` selects, `None` if none is left.

    A choice is one conversation, and counts as rescued if any of its answers is. A job without
    answers is not rescued.
    """
    if rescued == "keep":
        return job
    wanted = rescued == "only"
    kept = [turns for turns in choices(job) if any(t.rescued for t in turns) is wanted]
    if not kept and (wanted or job.turns):
        return None
    return msgspec.structs.replace(job, turns=tuple(turn for turns in kept for turn in turns))


def rescued_in(text: str) -> Rescued:
    """Check the value of `--rescued`; raises `InputError` naming the allowed ones."""
    known: dict[str, Rescued] = {"keep": "keep", "drop": "drop", "only": "only"}
    if text not in known:
        raise InputError(f"--rescued {text}: must be one of {', '.join(known)}")
    return known[text]


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def names_in(
    option: str, text: str | None, kind: type[Named], known: frozenset[Named]
) -> frozenset[Named] | None:
    """Return the values in `done,failed`, or `None` without a text.

    Raises `InputError`, which names the command line `option`, for a value that is not `known`.
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in set(known):
            raise InputError(f"{option} {name}: must be one of {', '.join(sorted(known))}")
    return frozenset(kind(name) for name in names)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"--where {text}: needs key=value, such as topic=sums")
    return key, value


def _texts(value: msgspec.Raw, path: str) -> set[str]:
    """Return the scalars at `path` as texts; a dot goes one level down, or is part of a key."""
    found = set()
    for key, item in _members(value).items():
        if key == path:
            found |= _scalar(item)
        elif path.startswith(f"{key}."):
            found |= _texts(item, path[len(key) + 1 :])
    return found


def _members(value: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Return the members of an object, or of an array by index; none of a scalar."""
    if bytes(value).startswith(b"["):
        return {str(i): item for i, item in enumerate(_ARRAY.decode(value))}
    return _OBJECT.decode(value) if bytes(value).startswith(b"{") else {}


def _scalar(value: msgspec.Raw) -> set[str]:
    """Return a text, or another scalar as it was written; nothing of an object or array."""
    raw = bytes(value)
    if raw.startswith((b"{", b"[")):
        return set()
    return {msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()}
