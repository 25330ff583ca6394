"""The files that each attempt leaves beside the log: what went in, what came out, what was made
of it. What they are called and hold is a value; only `write` touches the disk.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.jobs.generation import Generation
from mh_batch.jobs.record import Attempt, AttemptKey, ClaimedJob, Verdict
from mh_batch.jobs.settings import Sampling
from mh_batch.worker.files import own_folder, remove_partials, replacing
from mh_batch.worker.options import ArtifactPolicy

# Control tokens as the usual vocabularies spell them.
_CONTROL = re.compile("<([|\uff5c])[^|\uff5c<>\\s]{1,64}\\1>|</?s>|<(?:start|end)_of_turn>")


class File(NamedTuple):
    """A file's name and its content."""

    name: str
    content: bytes


class RetryDecision(msgspec.Struct, frozen=True):
    """What was made of an attempt, and what it ran with.

    `reason` is `None` for an attempt that was accepted. `guidance` is the remark that its prompt
    had, `None` for none. `attempt` counts over all rounds of `mh-batch retry`, `max_attempts` is
    the cap of one, which an attempt that `continues` the one before does not count to.
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


def wanted(keep: ArtifactPolicy, attempt: Attempt) -> bool:
    """Whether the files of an attempt are kept.

    With `retries` those of attempts that failed and of those that came after them: whether a step
    is tried again is known as soon as its first attempt is judged.
    """
    match keep:
        case "all":
            return True
        case "retries":
            return attempt.verdict is not Verdict.ACCEPT or attempt.key.attempt > 1
        case "off":
            return False


def place_name(key: AttemptKey) -> str:
    """Return an attempt's place as file names have it: `2.1` for turn 2, `c1-2.1.1` in full.

    The parts are choice (left out for the first), turn, step (left out for the first), attempt.
    """
    choice = f"c{key.choice}-" if key.choice else ""
    step = f".{key.step}" if key.step else ""
    return f"{choice}{key.turn}{step}.{key.attempt}"


def folder(logs: Path, job: ClaimedJob) -> Path:
    """Return where a job's files go; a `custom_id` never becomes a path."""
    return logs / str(job.batch_id) / str(job.id)


def files(attempt: Attempt, guidance: str | None, max_attempts: int) -> tuple[File, ...]:
    """Return the files of an attempt; those of the prompt only if the engine gave it."""
    made, key = attempt.generation, place_name(attempt.key)
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
    )
    return (
        *_prompt_files(made, key),
        File(f"completion.tokens.{key}.json", msgspec.json.encode(made.tokens)),
        File(f"completion.raw.{key}.txt", made.raw.encode()),
        File(f"completion.cleaned.{key}.txt", cleaned(made).encode()),
        File(f"parse.channels.{key}.json", _readable(made.parse)),
        File(f"retry.decision.{key}.json", _readable(decision)),
    )


def cleaned(generation: Generation) -> str:
    """Return the final text, control tokens and outer white space gone; empty if there is none.

    In a well-formed answer whatever looks like a control token is the answer's own text.
    """
    parse = generation.parse
    text = parse.text("final") or ""
    return (text if parse.well_formed else _CONTROL.sub("", text)).strip()


def write(target: Path, contents: Sequence[File]) -> None:
    """Put files into the folder `target`, made if it is not there.

    Each appears whole or not at all. A death of the process loses none that was written; a power
    cut may. The last two folders of `target` are ours, and nothing in them leads elsewhere. Raises
    `EnvironmentFault` if one of them is a link, or the disk does not take the files.
    """
    try:
        with own_folder(target.parent.parent, target.parent.name, target.name) as folder:
            remove_partials(folder)
            for file in contents:
                with replacing(Path(file.name), folder) as out:
                    out.write(file.content)
    except NotADirectoryError as error:
        why = "a link or a file stands where a folder of ours belongs; remove it"
        raise _not_written(error.filename or str(target), why) from error
    except OSError as error:
        why = f"{error.strerror}; free some space there"
        raise _not_written(str(target), why) from error


def _not_written(where: str, why: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"{where}: the artifacts of an attempt cannot be written: {why}, or work with "
        "--artifacts off; the attempt was not recorded, and the next `mh-batch work` makes it again"
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
