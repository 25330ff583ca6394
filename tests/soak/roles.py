"""What a process of a night plays: the worker, the model process, or a submit.

`play` gets what the fork server was sent. `sabotage` breaks a promise of the program on purpose.
"""

import json
import sys
from pathlib import Path
from typing import Any

import anyio

import mh_batch.engine.model.load  # noqa: F401  (what a model process would import at its first load)
from helpers.forks import doorway
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.jobs.errors import AlreadySubmitted, EnvironmentFault
from mh_batch.jobs.record import ClaimedJob, JobEnd, NewBatch
from mh_batch.jobs.settings import Settings, apply
from mh_batch.store.connection import open_store
from mh_batch.worker.draining.model import loader
from mh_batch.worker.draining.reporter import Tally
from mh_batch.worker.draining.run import work
from mh_batch.worker.model_process.child import server
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.progress.plain_display import PlainDisplay
from mh_batch.worker.submission import submission

from . import hooks
from .plan import plan
from .sabotage import SABOTAGES
from .strikes import Strikes

TOLD = "told.log"
EVERY_CRASH = 1_000_000


class Telling(PlainDisplay):
    """Writes down which jobs were told as ended: those must be so, whatever happens next."""

    def __init__(self, path: Path) -> None:
        super().__init__(sys.stderr)
        self._path = path

    def job_ended(self, job: ClaimedJob, end: JobEnd, tally: Tally, waiting: int) -> None:
        with self._path.open("a") as told:
            told.write(f"{job.custom_id}\n")
        super().job_ended(job, end, tally, waiting)


def warm() -> None:
    """Have in memory what every model process begins with, before any is forked."""
    HarmonyAdapter()


def play(role: dict[str, Any]) -> int:
    """Play a role to its end; return the exit code."""
    strikes = Strikes(Path(role["folder"]), plan(role["seed"], role["kills"]))
    players = {"worker": _work, "model": _serve, "submitter": _submit}
    strikes.sign_in(role["role"])
    return players[role["role"]](role, strikes)


def _work(role: dict[str, Any], strikes: Strikes) -> int:
    folder = Path(role["folder"])
    if role["sabotage"]:
        SABOTAGES[role["sabotage"]]()
    hooks.in_worker(strikes, folder)
    # a model that dies at load is tried again at once, and again
    loader.RELOAD_PAUSES = (0.0,) * 100  # type: ignore[assignment]
    options = DrainOptions(
        folder / "mh-batch.db",
        "demo",
        folder / "logs",
        max_crashes=EVERY_CRASH,
        parallel=role["parallel"],
    )
    command = doorway(role["socket"], {**role, "role": "model"})
    try:
        anyio.run(work, options, Telling(folder / TOLD), command)
    except EnvironmentFault as fault:
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr, flush=True)
        return fault.exit_code
    return 0


def _serve(_: dict[str, Any], strikes: Strikes) -> int:
    hooks.in_model(strikes)
    server.main()
    return 0


def _submit(role: dict[str, Any], strikes: Strikes) -> int:
    """Submit one file; a batch that landed before its submit was killed is there for good."""
    hooks.in_submit(strikes)
    source = Path(role["source"])
    db = open_store(Path(role["folder"]) / "mh-batch.db")
    settings = apply(Settings(), {"max_tokens": 64})
    try:
        with source.open("rb") as stream:
            submission.submit_stream(db, stream, NewBatch(source.stem, source.name, settings))
    except AlreadySubmitted:
        pass
    finally:
        db.close()
    return 0


if __name__ == "__main__":
    sys.exit(play(json.loads(sys.argv[1])))
