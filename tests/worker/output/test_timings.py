"""`mh-batch timings` on a real night."""

import importlib.util
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from helpers.command_line import MAIN, mh_batch
from helpers.queries import query
from helpers.store_samples import DONE, attempt, claim, lines, side_by_side, start, submit, turn
from mh_batch.jobs.errors import InputError
from mh_batch.store import queue
from mh_batch.store.connection import open_reader, open_store
from mh_batch.store.reports.timings import timing_report
from mh_batch.worker.output.timings import summary, timings
from mh_batch.worker.text.format import format_number, format_percent, format_seconds

needs_matplotlib = pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="an extra")


def scalar(night: Path, sql: str) -> object:
    ((value,),) = query(night / "mh-batch.db", sql)[1]
    return value


def told(
    night: Path, ref: str | None = None, plot: str | None = None, as_json: bool = False
) -> None:
    with closing(open_reader(night / "mh-batch.db")) as reader:
        timings(reader, ref, night / plot if plot else None, as_json)


def test_the_table_shows_what_the_database_holds(
    night: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(night)
    out = capsys.readouterr().out
    attempts = scalar(night, "SELECT count(*) FROM attempts")
    tokens = scalar(night, "SELECT sum(completion_tokens) FROM attempts")
    assert f"{attempts} attempts" in out
    assert f"{tokens:,} generated" in out
    for part in ("all batches", "by context length", "by hour", "why attempts were refused"):
        assert part in out


def test_a_batch_has_its_own_numbers_also_as_json(
    night: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads(mh_batch(night, "timings", "trouble", "--json").stdout)
    sql = "SELECT {} FROM attempts JOIN jobs ON jobs.id = job_id WHERE batch_id = 2"
    totals = report["totals"]
    assert totals["attempts"] == scalar(night, sql.format("count(*)"))
    assert totals["completion_tokens"] == scalar(night, sql.format("sum(completion_tokens)"))
    assert sum(b["attempts"] for b in report["by_context"]) == totals["attempts"]
    assert sum(b["attempts"] for b in report["by_time"]) == totals["attempts"]
    assert [r["reason"] for r in report["refusals"]] == ["length"]
    told(night, "2")
    assert "batch 2 (trouble)" in capsys.readouterr().out


@needs_matplotlib
def test_the_plot_is_a_png_of_a_readable_size(night: Path) -> None:
    told = mh_batch(night, "timings", "--plot", "night.png")
    assert told.stderr == "the picture is in night.png\n"
    content = (night / "night.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(content[at : at + 4]) for at in (16, 20))
    assert 1200 <= width <= 2400
    assert 800 <= height <= 1600


def test_a_plot_never_overwrites_the_database(night: Path) -> None:
    before = (night / "mh-batch.db").read_bytes()
    for name in ("mh-batch.db", "mh-batch.db-wal", "mh-batch.db.lock"):
        with pytest.raises(InputError, match="the picture would overwrite it"):
            told(night, plot=name)
    assert (night / "mh-batch.db").read_bytes() == before


def test_without_matplotlib_the_cure_is_named_before_anything_is_printed(
    night: Path, tmp_path: Path
) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "timings", "--plot", "a.png"],
        cwd=night,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'mh-batch[plot]'" in done.stderr


def test_before_the_first_attempt_there_is_a_line_and_no_picture(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "Hello"}\n')
    mh_batch(tmp_path, "submit", "in.jsonl")
    assert "no attempt yet" in mh_batch(tmp_path, "timings").stdout
    if importlib.util.find_spec("matplotlib"):
        assert "nothing to draw" in mh_batch(tmp_path, "timings", "--plot", "a.png", code=2).stderr
    assert not (tmp_path / "a.png").exists()


def test_numbers_are_written_as_people_read_them() -> None:
    assert [format_number(v) for v in (None, 0.04, 12.34, 12345.6)] == [
        "-",
        "0.0",
        "12.3",
        "12,346",
    ]
    assert [format_percent(*v) for v in ((0, 0), (0, 5), (1, 200), (1, 3))] == [
        "-",
        "0%",
        "0.5%",
        "33%",
    ]
    assert [format_seconds(v) for v in (None, 0, 0.0024, 0.5, 59.94, 119.96, 600, 9000)] == [
        *("-", "0 ms", "2.4 ms", "500 ms", "59.9 s", "2 min", "10 min", "2 h 30 min")
    ]


def test_several_conversations_at_once_are_told_with_what_they_cost_each_other(
    tmp_path: Path,
) -> None:
    with closing(open_store(tmp_path / "mh-batch.db")) as db:
        submit(db, lines(3))
        run_id = start(db)
        queue.record(db, claim(db, run_id).id, run_id, attempt(), turn(), DONE)
        alone = dict(summary(timing_report(db, None)))
        for _ in range(2):
            queue.record(db, claim(db, run_id).id, run_id, side_by_side(), turn(), DONE)
        told = dict(summary(timing_report(db, None)))
    assert "slots" not in alone
    assert "waiting" in alone["time went to"]
    assert told["decode speed"] == "6.0 tokens/s"
    assert told["slots"] == "2.5 of 8 busy on average"
    assert told["lost to other prompts"] == ("44% of the attempts' decoding time, together 2.0 s")
    # the waits of several at once are no share of the clock
    assert "waiting" not in told["time went to"]
