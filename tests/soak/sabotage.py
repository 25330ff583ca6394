"""The program with one of its promises broken, to see that the soak would notice."""

from typing import Any

from mh_batch.store import queue
from mh_batch.store.queue import recording
from mh_batch.worker.draining import recorder


def tear_transactions() -> None:
    """Record an attempt in one transaction, and the turn that it settles in another."""
    whole = recording.record

    def torn(db: Any, job_id: int, run_id: int, attempt: Any, turn: Any, end: Any) -> int:
        attempt_id = whole(db, job_id, run_id, attempt, None, None)
        with recording.immediate(db):  # type: ignore[attr-defined]
            if turn is not None:
                recording._record_turn(db, job_id, turn)
            if end is not None:
                recording._end(db, job_id, end)
        return attempt_id

    queue.record = torn


def lose_channels() -> None:
    """Commit an attempt without the last channel of its parse."""
    whole = recording.add_parse

    def short(db: Any, attempt_id: int, parse: Any) -> None:
        whole(db, attempt_id, parse)
        last = "SELECT max(position) FROM channels WHERE attempt_id = ?1"
        db.conn.execute(
            f"DELETE FROM channels WHERE attempt_id = ?1 AND position = ({last})", (attempt_id,)
        )

    recording.add_parse = short


def tell_too_early() -> None:
    """Tell of a job's end before it is on disk."""
    record = recorder.Recorder._record

    async def early(self: Any, job: Any, done: Any, guidance: Any) -> None:
        if done.end is not None:
            await self.report_end(job, done.end)
        await record(self, job, done, guidance)

    recorder.Recorder._record = early  # type: ignore[assignment, method-assign]


def commit_before_files() -> None:
    """Record an attempt before its files are written."""
    write = recorder.Recorder._write_artifacts

    async def late(self: Any, job: Any, done: Any, guidance: Any) -> None:
        attempt, turn, end = done.attempt, done.turn, done.end
        await self._store.call(queue.record, job.id, self._run_id, attempt, turn, end)
        await write(self, job, attempt, guidance)
        if end is not None:
            await self.report_end(job, end)

    recorder.Recorder._record = late  # type: ignore[assignment, method-assign]


SABOTAGES = {
    function.__name__: function
    for function in (tear_transactions, lose_channels, tell_too_early, commit_before_files)
}
"""By name; each makes a night differ from the one that nothing disturbed."""
