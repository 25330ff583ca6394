"""What one run of the worker is to do."""

from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mh_batch.jobs.settings import MOST, MOST_BYTES, EngineOptions

ArtifactPolicy = Literal["all", "retries", "off"]
"""Whose files are kept: every attempt's, those of steps that were tried again, nobody's."""

HANG_SECONDS = 300.0
"""How long the model process may give no sign of life while an answer is due."""

MAX_CRASHES = 2
"""How often in a row the model may die on one attempt before its job is given up."""


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works, whatever it has to do: the same in `mh-batch.toml` and in Python.

    `engine` is how the model uses memory. `artifacts` says of which attempts files are kept. The
    model process is replaced between jobs once it holds more than `recycle_bytes` (`None` keeps
    it), and whenever it gives no sign of life for `hang_seconds` while it is due. A job is failed
    after `max_crashes` deaths of the model on one attempt.
    """

    engine: EngineOptions = EngineOptions()
    artifacts: ArtifactPolicy = "all"
    recycle_bytes: Annotated[int, Meta(ge=1, le=MOST_BYTES)] | None = None
    hang_seconds: Annotated[float, Meta(ge=1)] = HANG_SECONDS
    max_crashes: Annotated[int, Meta(ge=1, le=MOST)] = MAX_CRASHES


class WorkerOptions(WorkerSettings, frozen=True, kw_only=True):
    """How a worker works, and when it ends.

    That is after `max_jobs` jobs (`None` for any number), when the local clock next shows `until`
    (`None` for never), and when the queue is empty, unless it is to `watch` for new work.
    """

    max_jobs: Annotated[int, Meta(ge=1, le=MOST)] | None = None
    until: time | None = None
    watch: bool = False


class DrainOptions(WorkerOptions, frozen=True):
    """What one drain is to do.

    `model` serves jobs that name none; `None` if there is no such model. `logs` is the folder of
    the worker's log, and of the files of attempts.
    """

    db: Path
    model: str | None
    logs: Path


def shared_fields(options: WorkerSettings, kind: type[WorkerSettings]) -> dict[str, Any]:
    """Return what `options` says of all that a `kind` can say, by name."""
    return {name: getattr(options, name) for name in kind.__struct_fields__}
