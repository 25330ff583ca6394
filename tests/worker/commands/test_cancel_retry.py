"""`cancel` and `retry` as a person sees them: what is said, and that a mistake changes nothing."""

import re
from io import StringIO
from pathlib import Path

import pytest

from helpers.command_line import mh_batch, rows, write_lines
from helpers.drained import ONE, TWO, Site
from mh_batch.jobs.errors import InputError, SettingsError, StoreUnusable, UnknownTarget
from mh_batch.worker.commands.cancel_retry import cancel, retry
from mh_batch.worker.commands.results import show
from mh_batch.worker.doctor import database, finding
from mh_batch.worker.output import deletion
from mh_batch.worker.text.format import MIB

pytestmark = pytest.mark.anyio


class Terminal(StringIO):
    """Somebody who types this."""

    def isatty(self) -> bool:
        return True


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


async def test_a_retry_gives_what_is_tried_again_another_setting_and_show_says_so(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.submit(ONE, ONE, max_attempts=1, max_tokens=48)
    assert (await site.drain(["length"] * 4)).exit_code == 1
    retry(["b/line-1", "1/2"], site.db_path, None, ["max_tokens=8192", "temperature=0"])
    assert capsys.readouterr().err.splitlines() == [
        "job 1 (b/line-1): 1 queued again with max_tokens=8192, temperature=0",
        "job 2 (b/line-2): 1 queued again with max_tokens=8192, temperature=0",
    ]
    assert (await site.drain()).exit_code == 0
    used = "select round, json_extract(sampling, '$.max_tokens') from attempts order by round, id"
    assert site.rows(f"select distinct * from ({used})") == [(0, 48), (0, 24), (1, 8192)]
    recorded = "select job_id, round, settings, before from retry_settings"
    new, old = '{"max_tokens":8192,"temperature":0.0}', '{"max_tokens":48,"temperature":1.0}'
    assert site.rows(recorded) == [(job, 1, new, old) for job in (1, 2)]
    show("1", site.db_path)
    assert "max_tokens 48 → 8192, temperature 1.0 → 0.0" in capsys.readouterr().out
    site.submit(ONE)
    site.cancel("2/line-1")
    with pytest.raises(InputError, match="is done; settings can be changed only"):
        retry(["2/line-1", "1/1"], site.db_path, None, ["max_tokens=9"])
    assert site.rows("select status from jobs where batch_id = 2") == [("cancelled",)]
    with pytest.raises(SettingsError, match="--set max_tokens: write it as key=value"):
        retry(["b"], site.db_path, None, ["max_tokens"])


def test_an_archived_batch_is_in_the_status_of_all_only(tmp_path: Path) -> None:
    write_lines(tmp_path, [{"prompt": "Hi"}])
    mh_batch(tmp_path, "submit", "convos.jsonl")
    refused = mh_batch(tmp_path, "archive", "convos", code=2).stderr
    assert "1 of its jobs are queued or running" in refused
    mh_batch(tmp_path, "cancel", "convos")
    said = [mh_batch(tmp_path, "archive", "convos", *more).stderr for more in ((), (), ("--undo",))]
    assert said == [
        "batch 1 (convos): archived\n",
        "batch 1 (convos): is archived already\n",
        "batch 1 (convos): in the lists again\n",
    ]
    mh_batch(tmp_path, "archive", "1")
    assert mh_batch(tmp_path, "status").stdout == (
        "no batches; `mh-batch status --all` lists the archived ones\n"
    )
    listed = mh_batch(tmp_path, "status", "--all").stdout.splitlines()
    assert listed[0].split()[-1] == "archived"
    assert listed[1].split()[1] == "convos"
    assert len(listed[1].split()) == len(listed[0].split()) + 2  # a date is two words
    assert mh_batch(tmp_path, "archive", "1", "--undo").returncode == 0
    assert "archived" not in mh_batch(tmp_path, "status", "--all").stdout


def test_a_deletion_says_what_goes_and_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = write_lines(tmp_path, [{"prompt": "Hi"}, {"prompt": "Ho"}])
    mh_batch(tmp_path, "submit", str(lines))
    (tmp_path / "logs" / "1" / "2").mkdir(parents=True)
    (tmp_path / "logs" / "1" / "2" / "prompt.full.1.1.txt").write_text("Hi")
    (tmp_path / "logs" / "worker.log").write_text("loaded")
    asked = mh_batch(tmp_path, "delete", "convos", code=2).stderr
    assert f"2 jobs (2 still queued), 0 attempts, 1 file in {tmp_path}/logs/1" in asked
    assert "nobody is there to ask; --yes" in asked
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert "Delete this for good?" in mh_batch(tmp_path, "delete", "convos", code=1).stderr
    assert rows(tmp_path, "select count(*) from jobs") == [(2,)]
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert "batch 1 (convos): deleted" in mh_batch(tmp_path, "delete", "convos", "1").stderr
    assert rows(tmp_path, "select count(*) from batches") == [(0,)]
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["worker.log"]
    # its file may be submitted once more
    mh_batch(tmp_path, "submit", str(lines))


def test_a_link_in_place_of_a_batchs_files_is_not_followed(tmp_path: Path) -> None:
    lines = write_lines(tmp_path, [{"prompt": "Hi"}])
    mh_batch(tmp_path, "submit", str(lines))
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "kept").write_text("mine")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "1").symlink_to(tmp_path / "else")
    said = mh_batch(tmp_path, "delete", "1", "--yes").stderr
    assert said.startswith("batch 1 (convos): 1 job (1 still queued), 0 attempts\n")
    assert (tmp_path / "else" / "kept").read_text() == "mine"


def test_free_space_is_named_where_it_is_worth_it_and_vacuum_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = write_lines(tmp_path, [{"prompt": "x" * 200_000} for _ in range(10)])
    mh_batch(tmp_path, "submit", str(lines))
    monkeypatch.setattr(deletion, "WORTH_VACUUM", MIB)
    monkeypatch.setattr(database, "WORTH_VACUUM", MIB)
    said = mh_batch(tmp_path, "delete", "1", "--yes").stderr
    assert re.search(r"[\d.]+ MiB of [\d.]+ MiB are free: .*`mh-batch vacuum`", said)
    site = finding.Site(tmp_path / "mh-batch.db", tmp_path / "logs", None)
    (found,) = (one for one in database.database(site) if one.subject == "space")
    assert "`mh-batch vacuum`" in (found.cure or "")
    before = (tmp_path / "mh-batch.db").stat().st_size
    assert "MiB before, " in mh_batch(tmp_path, "vacuum").stderr
    assert (tmp_path / "mh-batch.db").stat().st_size < before - 2_000_000
    assert not [one for one in database.database(site) if one.subject == "space"]
