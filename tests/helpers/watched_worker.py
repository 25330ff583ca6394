"""A real worker that tells each of its events on standard output, so that a test can strike then.

Started as `python watched_worker.py DATABASE [PARALLEL [FORKS]]`; its model process is a fork of
the server that listens at FORKS, if that is given. Lines: `attempt ID TURN`, `tokens N`,
`ended ID STATUS`, `end REASON`.
"""

import sys
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.forks import Forks
from mh_batch.jobs.record import AttemptKey, ClaimedJob, JobEnd
from mh_batch.worker.draining.reporter import Tally
from mh_batch.worker.draining.run import work
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.progress.plain_display import PlainDisplay


class TellingDisplay(PlainDisplay):
    """Prints every event at once."""

    def attempt_started(self, job: ClaimedJob, key: AttemptKey) -> None:
        print("attempt", job.custom_id, key.turn, flush=True)

    def tokens(self, _job: ClaimedJob, _key: AttemptKey, count: int) -> None:
        print("tokens", count, flush=True)

    def job_ended(self, job: ClaimedJob, end: JobEnd, tally: Tally, waiting: int) -> None:
        super().job_ended(job, end, tally, waiting)
        print("ended", job.custom_id, end.status, flush=True)


if __name__ == "__main__":
    db = Path(sys.argv[1])
    parallel = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    if len(sys.argv) > 3:
        anyio.open_process = Forks(sys.argv[3]).replaces(anyio.open_process)  # type: ignore[assignment]
    options = DrainOptions(db=db, model="demo", logs=db.parent / "logs", parallel=parallel)
    outcome = anyio.run(work, options, TellingDisplay(sys.stderr))
    print("end", outcome.reason, flush=True)
