"""Results a page at a time are the whole results."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlite_utils import Database

from helpers.store_samples import DONE, finish_next, line, start, submit
from mh_batch.jobs.record import JobEnd
from mh_batch.jobs.results.formats import FORMATS
from mh_batch.jobs.status import FINISHED, Status
from mh_batch.store.connection import open_store
from mh_batch.store.lookup import Target
from mh_batch.store.queue.cancel_retry import cancel
from mh_batch.store.reports.results import finished_jobs
from mh_batch.store.server.batches import BatchRef, find_api_batch
from mh_batch.store.server.endings import next_ended
from mh_batch.store.server.files import Part
from mh_batch.worker.server import results
from mh_batch.worker.server.results import BEGIN, Measure, part_of, result_page

FAILED = JobEnd(Status.FAILED, "prompt_too_long", "too long")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """A batch whose jobs have the positions 1, 1, 2, 3, 3, 4 and 5; the last two are cancelled."""
    store = open_store(tmp_path / "mh-batch.db")
    positions = (1, 1, 2, 3, 3, 4, 5)
    batch_id = submit(store, [line(p, f"job-{n}") for n, p in enumerate(positions)])
    run_id = start(store)
    for end in (DONE, DONE, FAILED, DONE, FAILED):
        finish_next(store, run_id, end)
    cancel(store, Target(batch_id, None, "batch"))
    yield store
    store.close()


def pages(db: Database, part: Part, *, expired: bool = False) -> list[bytes]:
    found, position = [], BEGIN
    while True:
        page = result_page(db, 1, part, position, expired=expired)
        found.append(page.data)
        if page.position is None:
            return found
        assert page.position > position
        position = page.position


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_pages_of_any_size_make_the_results_of_the_command(
    db: Database, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(results, "PAGE_JOBS", most)
    whole: dict[Part, bytes] = {"output": b"", "errors": b""}
    for job in finished_jobs(db, 1, sorted(FINISHED)):
        (row,) = FORMATS["openai"].rows(job)
        whole[part_of(job)] += msgspec.json.encode(row) + b"\n"
    for part, content in whole.items():
        assert content.count(b"\n") == {"output": 3, "errors": 4}[part]
        assert b"".join(pages(db, part)) == content


def test_a_page_of_many_bytes_ends_early(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "PAGE_BYTES", 1)
    # the copies of one row are in one page
    assert [page.count(b"\n") for page in pages(db, "output")] == [2, 1]


def test_what_an_expired_batch_did_not_come_to_says_so(db: Database) -> None:
    lines = [
        msgspec.json.decode(x) for x in b"".join(pages(db, "errors", expired=True)).splitlines()
    ]
    codes = [line["error"]["code"] for line in lines]
    assert codes == ["prompt_too_long", "prompt_too_long", "batch_expired", "batch_expired"]


@pytest.mark.parametrize("most", [1, 100])
def test_the_measured_size_is_that_of_all_pages(
    db: Database, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(results, "PAGE_JOBS", most)
    ended = next_ended(db)
    assert ended is not None
    measure = Measure(ended)
    steps = 1
    while not measure.step(db):
        steps += 1
    assert (steps > 1) == (most == 1)
    sizes = dict(db.conn.execute("SELECT part, bytes FROM files").fetchall())
    assert sizes == {
        "output": sum(map(len, pages(db, "output"))),
        "errors": sum(map(len, pages(db, "errors"))),
    }
    batch = find_api_batch(db, BatchRef(False, 1))
    assert batch is not None
    latest = db.conn.execute("SELECT max(finished_at) FROM jobs").fetchone()[0]
    assert batch.ended_at == latest
