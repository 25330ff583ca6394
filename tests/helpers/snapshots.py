"""Snapshots of a drain to be drawn."""

from mh_batch.jobs.record import AttemptKey
from mh_batch.jobs.status import Status
from mh_batch.store.reports.batches import BatchReport
from mh_batch.store.reports.progress import LastAttempt, Pace
from mh_batch.worker.progress.snapshot import Attempting, Snapshot

LAST = LastAttempt(80.0, 1204, 8192, 3 * 2**30, 4 * 2**30, 5 * 2**30)


def batch(name: str = "night", done: int = 3, failed: int = 1, queued: int = 6) -> BatchReport:
    counts = {Status.DONE: done, Status.FAILED: failed, Status.QUEUED: queued}
    return BatchReport(
        id=1,
        name=name,
        state="ready",
        submitted_at="2026-05-01T01:00:00.000Z",
        total=done + failed + queued,
        counts=counts,
        attempts=5,
        retries=1,
        completion_tokens=500,
        tokens_per_second=80.0,
    )


def snapshot(*batches: BatchReport, jobs: int = 4) -> Snapshot:
    """A drain in the middle of its work: `jobs` were finished at 30 seconds each."""
    return Snapshot(
        batches=batches or (batch(),),
        waiting=6,
        attempting=(Attempting("talk", AttemptKey(turn=2, attempt=3), 17),),
        tokens_per_second=81.25,
        last=LAST,
        pace=Pace(jobs, jobs * 30.0, 79.0),
    )
