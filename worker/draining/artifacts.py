"""The files of an attempt: its prompt, its completion, the parse and the retry decision.

Their names and contents are values; only `write` touches the disk.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.jobs.files import replacing
from mh_batch.jobs.generation import Generation
from mh_batch.jobs.record import Attempt, AttemptKey, ClaimedJob, Verdict
from mh_batch.jobs.settings import Sampling
from mh_batch.worker.files import own_folder, remove_partials
from mh_batch.worker.options import ArtifactPolicy

# Control tokens as the usual vocabularies spell them.
_CONTROL = re.compile("<([|\uff5c])[^|\uff5c<>\\s]{1,64}\\1>|</?s>|<(?:start|end)_of_turn>")


class File(NamedTuple):
    """A file's name and content."""

    name: str
    content: bytes


class RetryDecision(msgspec.Struct, frozen=True):
    """The verdict on an attempt, and the settings it ran with.

    `reason` is `None` for an accepted attempt. `guidance` is the remark in its prompt, or `None`.
    `attempt` counts over all rounds of `mh-batch retry`; `max_attempts` is the cap of one round,
    and an attempt that `continues` the one before does not count towards it. `rejected` is what a
    check said of a good answer that it did not accept, else `None`.
    """

    verdict: Verdict
    reason: str | None
    problems: tuple[str, ...]
    stop_reason: str
    attempt: int
    max_attempts: int
    round: int
    rescued: bool
    continues: bool
    guidance: str | None
    seed: int
    sampling: Sampling
    rejected: str | None = None


def should_keep(policy: ArtifactPolicy, attempt: Attempt) -> bool:
    """Whether the files of an attempt are kept.

    With `retries` these are the attempts that failed and those after them.
    """
    match policy:
        case "all":
            return True
        case "retries":
            return attempt.verdict is not Verdict.ACCEPT or attempt.key.attempt > 1
        case "off":
            return False


def key_name(key: AttemptKey) -> str:
    """Return an attempt's key as it stands in file names: `2.1` for turn 2, `c1-2.1.1` in full.

    The parts are choice (omitted for the first), turn, step (omitted for the first), attempt.
    """
    choice = f"c{key.choice}-" if key.choice else ""
    step = f".{key.step}" if key.step else ""
    return f"{choice}{key.turn}{step}.{key.attempt}"


def folder(logs: Path, job: ClaimedJob) -> Path:
    """Return the folder of a job's files; a `custom_id` never becomes a path."""
    return logs / str(job.batch_id) / str(job.id)


def files(attempt: Attempt, guidance: str | None, max_attempts: int) -> tuple[File, ...]:
    """Return the files of an attempt; those of the prompt only if the generation has it."""
    made, key = attempt.generation, key_name(attempt.key)
    decision = RetryDecision(
        verdict=attempt.verdict,
        reason=attempt.retry_reason,
        problems=made.parse.problems,
        stop_reason=made.stop_reason,
        attempt=attempt.key.attempt,
        max_attempts=max_attempts,
        round=attempt.round,
        rescued=attempt.rescued,
        continues=attempt.continues,
        guidance=guidance,
        seed=attempt.seed,
        sampling=attempt.sampling,
        rejected=attempt.rejected,
    )
    return (
        *_prompt_files(made, key),
        File(f"completion.tokens.{key}.json", msgspec.json.encode(made.tokens)),
        File(f"completion.raw.{key}.txt", made.raw.encode()),
        File(f"completion.cleaned.{key}.txt", stripped(made).encode()),
        File(f"parse.channels.{key}.json", _readable(made.parse)),
        File(f"retry.decision.{key}.json", _readable(decision)),
    )


def stripped(generation: Generation) -> str:
    """Return the final text without control tokens and outer white space; empty if there is none.

    In a well-formed answer anything that looks like a control token is ordinary text.
    """
    parse = generation.parse
    text = parse.text("final") or ""
    return (text if parse.well_formed else _CONTROL.sub("", text)).strip()


def write(target: Path, contents: Sequence[File]) -> None:
    """Write files into the folder `target`, which is made if needed.

    Each file appears whole or not at all. A written file survives a death of the process, but
    perhaps not a power cut. Raises `EnvironmentFault` if one of the last two folders of `target` is
    a link, or if the files cannot be written.
    """
    try:
        with own_folder(target.parent.parent, target.parent.name, target.name) as folder:
            remove_partials(folder)
            for file in contents:
                with replacing(Path(file.name), folder) as out:
                    out.write(file.content)
    except NotADirectoryError as error:
        why = "a link or a file is in place of a folder of mh-batch; remove it"
        raise _not_written(error.filename or str(target), why) from error
    except OSError as error:
        why = f"{error.strerror}; free some space there"
        raise _not_written(str(target), why) from error


def _not_written(where: str, why: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"{where}: the artifacts of an attempt cannot be written: {why}, or work with "
        "--artifacts off; the attempt was not recorded, the next `mh-batch work` repeats it"
    )


def _prompt_files(made: Generation, key: str) -> tuple[File, ...]:
    if made.rendered is None:
        return ()
    return (
        File(f"prompt.full.{key}.txt", made.rendered.text.encode()),
        File(f"prompt.tokens.{key}.json", msgspec.json.encode(made.rendered.tokens)),
    )


def _readable(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
