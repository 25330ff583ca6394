"""The options of a worker and of one drain."""

from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mh_batch.jobs.settings import MOST, MOST_BYTES, MOST_PARALLEL, EngineOptions

ArtifactPolicy = Literal["all", "retries", "off"]
"""Which attempts leave files: all, those of retried steps, or none."""

HANG_SECONDS = 300.0
"""How long the model process may give no sign of life while an answer is due."""

ACCEPT_SECONDS = 30.0
"""How long a check of one answer may take."""

MAX_CRASHES = 2
"""Fail a job after this many consecutive deaths of the model on one attempt."""


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works: the same names in `mh-batch.toml` and in Python.

    `parallel` is how many conversations decode together; a batch keeps the number it began with.
    `engine` is how the model uses memory. `artifacts` says which attempts leave files. The model
    process is replaced between jobs once it holds more than `recycle_bytes` (`None`: never), and
    killed if it gives no sign of life for `hang_seconds` while an answer is due. A job is failed
    after `max_crashes` deaths of the model on one attempt. `accept` is a `FILE.py:function` that
    checks good answers, `None` for none; a check may take `accept_seconds`.
    """

    parallel: Annotated[int, Meta(ge=1, le=MOST_PARALLEL)] = 1
    engine: EngineOptions = EngineOptions()
    artifacts: ArtifactPolicy = "all"
    recycle_bytes: Annotated[int, Meta(ge=1, le=MOST_BYTES)] | None = None
    hang_seconds: Annotated[float, Meta(ge=1)] = HANG_SECONDS
    max_crashes: Annotated[int, Meta(ge=1, le=MOST)] = MAX_CRASHES
    accept: Annotated[str, Meta(min_length=1)] | None = None
    accept_seconds: Annotated[float, Meta(gt=0, le=86400)] = ACCEPT_SECONDS


class WorkerOptions(WorkerSettings, frozen=True, kw_only=True):
    """How a worker works, and when it ends.

    It ends after `max_jobs` jobs (`None`: any number), when the local clock next shows `until`
    (`None`: never), and when the queue is empty, unless it is to `watch` for new work. With `mix`,
    a batch that began with another number of slots goes on with `parallel`. `allow_variance` uses
    slots also where the self-test has failed: there an answer may depend on what runs beside it.
    """

    max_jobs: Annotated[int, Meta(ge=1, le=MOST)] | None = None
    until: time | None = None
    watch: bool = False
    mix: bool = False
    allow_variance: bool = False


class DrainOptions(WorkerOptions, frozen=True):
    """The options of one drain.

    `model` is for jobs that name none; `None` if there is no such model. `logs` is the folder of
    the worker's log and of the files of attempts.
    """

    db: Path
    model: str | None
    logs: Path

    @property
    def log_path(self) -> Path:
        """The worker's log, which the model process writes to as well."""
        return self.logs / "worker.log"


def shared_fields(options: WorkerSettings, kind: type[WorkerSettings]) -> dict[str, Any]:
    """Return the values in `options` of the fields that a `kind` has, by name."""
    return {name: getattr(options, name) for name in kind.__struct_fields__}
