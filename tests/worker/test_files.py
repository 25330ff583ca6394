"""No link leads a write elsewhere, and a report that cannot be written leaves the former one."""

import os
from pathlib import Path

import pytest

from helpers.drained import ONE, Site
from mh_batch.jobs.errors import BadLine, EnvironmentFault
from mh_batch.worker.bench.report.report import Report, Setup, write_report
from mh_batch.worker.bench.workload import QUICK
from mh_batch.worker.draining.artifacts import File, write
from mh_batch.worker.output.files import open_output
from mh_batch.worker.submission.rejects import Rejects


def said_by(path: Path) -> str:
    return path.read_text()


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", [".a.txt.partial", "a.txt"])
def test_a_link_in_the_folder_of_a_job_is_not_followed(
    tmp_path: Path, victim: Path, name: str
) -> None:
    target = tmp_path / "logs" / "1" / "1"
    target.mkdir(parents=True)
    (target / name).symlink_to(victim)
    write(target, [File("a.txt", b"new")])
    assert victim.read_text() == "precious"
    assert entries(target) == ["a.txt"]
    assert not (target / "a.txt").is_symlink()


@pytest.mark.parametrize("linked", ["1", "1/1"])
def test_a_folder_of_a_job_that_is_a_link_is_refused(tmp_path: Path, linked: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "1").mkdir(parents=True)
    link = tmp_path / "logs" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(EnvironmentFault, match=r"logs/1.* a link or a file .* remove it"):
        write(tmp_path / "logs" / "1" / "1", [File("a.txt", b"new")])
    assert entries(elsewhere) == ["1"]
    assert entries(elsewhere / "1") == []


def test_the_logs_themselves_may_be_on_another_disk(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "logs").symlink_to("elsewhere")
    write(tmp_path / "logs" / "1" / "1", [File("a.txt", b"new")])
    assert entries(tmp_path / "elsewhere" / "1" / "1") == ["a.txt"]


@pytest.mark.anyio
async def test_no_link_in_the_logs_leads_a_drain_to_write_elsewhere(
    site: Site, victim: Path
) -> None:
    site.submit(ONE)
    folder = site.folder / "logs" / "1" / "1"
    folder.mkdir(parents=True)
    names = ("prompt.full.1.1.txt", "completion.raw.1.1.txt", "retry.decision.1.1.json")
    for name in names:
        (folder / f".{name}.partial").symlink_to(victim)
    assert (await site.drain()).exit_code == 0
    assert said_by(victim) == "precious"
    assert {"completion.raw.1.1.txt", "retry.decision.1.1.json"} <= set(entries(folder))
    assert not [name for name in entries(folder) if name.endswith(".partial")]


def linked_away(link: Path, elsewhere: Path) -> Path:
    elsewhere.mkdir()
    link.parent.mkdir()
    link.symlink_to(elsewhere)
    return link


@pytest.mark.anyio
async def test_a_drain_whose_folder_is_a_link_ends_clearly_and_goes_on_without_it(
    site: Site, tmp_path: Path
) -> None:
    site.submit(ONE)
    link = linked_away(site.folder / "logs" / "1", tmp_path / "elsewhere")
    with pytest.raises(EnvironmentFault, match="a link or a file"):
        await site.drain()
    assert entries(tmp_path / "elsewhere") == []
    assert site.rows("select count(*) from attempts") == [(0,)]
    link.unlink()
    assert (await site.drain()).exit_code == 0


def test_rejects_and_results_are_written_under_fresh_names(tmp_path: Path, victim: Path) -> None:
    path = tmp_path / "in.jsonl.rejected.jsonl"
    Path(f"{path}.partial").symlink_to(victim)
    (tmp_path / f".out.{os.getpid()}.partial").symlink_to(victim)
    with Rejects(path) as rejects:
        rejects.add(BadLine(1, "why"), b"x")
        rejects.keep()
    with open_output(str(tmp_path / "out")) as out:
        out.write("theirs")
    assert victim.read_text() == "precious"
    assert (tmp_path / "out").read_text() == "theirs"


def test_a_report_of_a_bench_that_cannot_be_written_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "bench.json"
    path.write_text("former")
    monkeypatch.setattr(os, "fsync", full)
    report = Report(Setup("demo", "cpu", {}, True, 1, QUICK))
    with pytest.raises(EnvironmentFault, match=r"bench\.json: No space left on device"):
        write_report(report, path)
    assert entries(tmp_path) == ["bench.json"]
    assert path.read_text() == "former"
