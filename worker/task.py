"""What one run of the worker is to do."""

from datetime import time
from pathlib import Path

import msgspec

from mh_batch.jobs.settings import EngineOptions

from .artifacts import Keep

HANG_SECONDS = 300.0
"""How long the model process may give no sign of life while an answer is due."""

MAX_CRASHES = 2
"""How often in a row the model may die on one attempt before its job is given up."""


class Work(msgspec.Struct, frozen=True):
    """What one drain is to do.

    `model` serves jobs that name none; `None` if there is no such model. `logs` is the folder of
    the worker's log, and of the files of those attempts that `artifacts` says. The model process is
    replaced between jobs once it holds more than `recycle_bytes` (`None` keeps it), and whenever it
    gives no sign of life for `hang_seconds` while it is due. A job is failed after `max_crashes`
    deaths of the model on one attempt.

    It ends after `max_jobs` jobs (`None` for any number), when the local clock next shows `until`
    (`None` for never), and when the queue is empty, unless it is to `watch` for new work.
    """

    db: Path
    model: str | None
    logs: Path
    engine: EngineOptions = EngineOptions()
    recycle_bytes: int | None = None
    artifacts: Keep = "all"
    hang_seconds: float = HANG_SECONDS
    max_crashes: int = MAX_CRASHES
    max_jobs: int | None = None
    until: time | None = None
    watch: bool = False
