"""Which finished jobs are wanted: by status, by how their answer ended, by metadata."""

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
"""What becomes of conversations with an answer that was forced from thoughts that had not ended."""


class Selection(msgspec.Struct, frozen=True):
    """Filters that all have to agree; `None` and an empty `where` let everything through.

    `where` are pairs of a key of the metadata and the text its value must have. `rescued` says
    what becomes of conversations with rescued answers, `None` leaves that to the format.
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
        """Return what the options say; raises `InputError` naming the values there are."""
        return cls(
            names_in("--status", statuses, Status, FINISHED),
            names_in("--finish-reason", finish_reasons, FinishReason, frozenset(FinishReason)),
            tuple(_pair(text) for text in where),
            None if rescued is None else rescued_in(rescued),
        )

    def wants(self, job: FinishedJob) -> bool:
        """Whether the metadata is as `where` says."""
        if not self.where:
            return True
        if job.metadata is None:
            return False
        metadata = job.metadata
        return all(wanted in _texts(metadata, key) for key, wanted in self.where)

    def answers(self, job: FinishedJob) -> FinishedJob:
        """Return the job with those choices whose last answer ended as wanted."""
        if self.finish_reasons is None:
            return job
        ends = {turn.key.choice: turn.finish_reason for turn in job.turns}
        kept = tuple(t for t in job.turns if ends[t.key.choice] in self.finish_reasons)
        return msgspec.structs.replace(job, turns=kept)


def choose(job: FinishedJob, rescued: Rescued) -> FinishedJob | None:
    """Return the job with those conversations that `rescued` lets through, `None` if none is left.

    A choice is one conversation, and counts as rescued if any answer in it is. A job without
    answers has none that is.
    """
    if rescued == "keep":
        return job
    wanted = rescued == "only"
    kept = [turns for turns in choices(job) if any(t.rescued for t in turns) is wanted]
    if not kept and (wanted or job.turns):
        return None
    return msgspec.structs.replace(job, turns=tuple(turn for turns in kept for turn in turns))


def rescued_in(text: str) -> Rescued:
    """Return what `--rescued` says; raises `InputError` naming the values there are."""
    known: dict[str, Rescued] = {"keep": "keep", "drop": "drop", "only": "only"}
    if text not in known:
        raise InputError(f"--rescued {text}: there are {', '.join(known)}")
    return known[text]


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def names_in(
    option: str, text: str | None, kind: type[Named], known: frozenset[Named]
) -> frozenset[Named] | None:
    """Return the values in `done,failed`, or `None` without a text.

    Raises `InputError` for one that is not `known`, by the name of its command line `option`.
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in set(known):
            raise InputError(f"{option} {name}: there are {', '.join(sorted(known))}")
    return frozenset(kind(name) for name in names)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"--where {text}: needs key=value, such as topic=sums")
    return key, value


def _texts(value: msgspec.Raw, path: str) -> set[str]:
    """Return the scalars at `path`, as texts; a dot goes one level down, or belongs to a key."""
    found = set()
    for key, item in _members(value).items():
        if key == path:
            found |= _scalar(item)
        elif path.startswith(f"{key}."):
            found |= _texts(item, path[len(key) + 1 :])
    return found


def _members(value: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Return what is in an object, or in an array by its place; nothing for a scalar."""
    if bytes(value).startswith(b"["):
        return {str(i): item for i, item in enumerate(_ARRAY.decode(value))}
    return _OBJECT.decode(value) if bytes(value).startswith(b"{") else {}


def _scalar(value: msgspec.Raw) -> set[str]:
    """Return a text as it is, a number and the like as it was written, of others nothing."""
    raw = bytes(value)
    if raw.startswith((b"{", b"[")):
        return set()
    return {msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()}
