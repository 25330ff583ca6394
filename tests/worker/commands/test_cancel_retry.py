"""`cancel` and `retry` as a person sees them: what is said, and that a mistake changes nothing."""

from pathlib import Path

import pytest

from helpers.command_line import mh_batch, rows, write_lines
from helpers.drained import ONE, TWO, Site
from mh_batch.jobs.errors import InputError, StoreUnusable, UnknownTarget
from mh_batch.worker.commands.cancel_retry import cancel, retry

pytestmark = pytest.mark.anyio

STATUS = "select status from jobs order by id"


async def test_each_batch_and_job_named_says_what_became_of_it(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.submit(ONE, TWO, ONE)
    cancel(["line-2", "b"], site.db_path)
    cancel(["b"], site.db_path)
    retry(["1/line-1"], site.db_path)
    retry(["b"], site.db_path, "failed, incomplete")
    assert capsys.readouterr().err.splitlines() == [
        "job 2 (b/line-2): 1 cancelled",
        "batch 1 (b): 2 cancelled",
        "batch 1 (b): nothing is queued or running",
        "job 1 (b/line-1): 1 queued again",
        "batch 1 (b): nothing is failed or incomplete",
    ]
    assert site.rows(STATUS) == [("queued",), ("cancelled",), ("cancelled",)]
    assert (await site.drain()).exit_code == 0


async def test_a_name_that_is_none_changes_nothing_at_all(site: Site) -> None:
    site.submit(ONE, ONE)
    with pytest.raises(UnknownTarget, match="'nobody'"):
        cancel(["b", "nobody"], site.db_path)
    with pytest.raises(InputError, match="--status done: must be one of cancelled, failed"):
        retry(["b"], site.db_path, "failed,done")
    assert site.rows(STATUS) == [("queued",), ("queued",)]


async def test_a_mistyped_database_is_not_made(site: Site) -> None:
    for command in (cancel, retry):
        with pytest.raises(StoreUnusable, match="no database"):
            command(["b"], site.folder / "other.db")
    assert not (site.folder / "other.db").exists()


def test_run_ends_well_on_a_file_of_which_somebody_cancelled_the_rest(tmp_path: Path) -> None:
    write_lines(tmp_path, [{"prompt": "Hi"}])
    mh_batch(tmp_path, "submit", "convos.jsonl", "--model", "demo")
    mh_batch(tmp_path, "cancel", "convos")
    done = mh_batch(tmp_path, "run", "convos.jsonl", "-o", "out.jsonl", "--model", "demo")
    assert "going on with it" in done.stderr
    assert rows(tmp_path, "select status from jobs") == [("cancelled",)]
