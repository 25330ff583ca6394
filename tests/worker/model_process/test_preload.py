"""Another BLAS is preloaded into the model process, and into nothing else."""

import json
import os
import sys
from pathlib import Path

import pytest

from helpers.command_line import mh_batch, rows, write_lines
from mh_batch.engine.model.blas import REFERENCE, blas_in_use
from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.worker.doctor.blas import blas, judge_blas
from mh_batch.worker.doctor.finding import Severity, Site
from mh_batch.worker.model_process.preload import PACKAGE, openblas_path, preloading

linux = pytest.mark.skipif(sys.platform != "linux", reason="MLX on a Mac calls Accelerate")
OK, WARNING, FAILURE = Severity
ONE = [{"custom_id": "one", "prompt": "What is 2 + 3?", "max_tokens": 4, "max_attempts": 1}]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """MLX's own BLAS at a place of its own, beside what it needs."""
    import mlx.core  # noqa: F401

    own = blas_in_use()
    if own is None or own.path is None or own.name != REFERENCE:
        pytest.skip("MLX was not installed from its wheel")
    folder = tmp_path / "libraries"
    folder.mkdir()
    for path in Path(own.path).parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    copy = folder / "libanother.so"
    copy.write_bytes(Path(own.path).read_bytes())
    return copy


def test_a_path_becomes_the_linkers_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "libblas.so"
    path.touch()
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    assert preloading(None, "linux") == {}
    assert preloading(str(path), "linux") == {"LD_PRELOAD": str(path)}
    monkeypatch.setenv("LD_PRELOAD", "/lib/mine.so")
    assert preloading(str(path), "linux") == {"LD_PRELOAD": f"{path}:/lib/mine.so"}
    monkeypatch.chdir(tmp_path)
    assert preloading("libblas.so", "linux")["LD_PRELOAD"].startswith(str(path))


@pytest.mark.parametrize(
    ("name", "system", "told"),
    [
        ("nowhere.so", "linux", f"no such file; apt-get install {PACKAGE}"),
        ("with space.so", "linux", "cannot hold a path with a space or a colon"),
        ("libblas.so", "darwin", "on a Mac MLX uses Apple's Accelerate"),
    ],
)
def test_what_cannot_be_preloaded_is_refused(
    name: str, system: str, told: str, tmp_path: Path
) -> None:
    for there in ("with space.so", "libblas.so"):
        (tmp_path / there).touch()
    with pytest.raises(EnvironmentFault, match=told):
        preloading(str(tmp_path / name), system)


def configured(folder: Path, path: object) -> None:
    """Write a file of settings that names a BLAS, and queue a job."""
    (folder / "mh-batch.toml").write_text(f"[engine]\npreload_blas = {json.dumps(str(path))}\n")
    write_lines(folder, ONE)
    mh_batch(folder, "submit", "convos.jsonl")


@linux
def test_a_path_that_is_not_there_is_an_error_before_a_model_is_loaded(tmp_path: Path) -> None:
    configured(tmp_path, "nowhere/libopenblas.so.0")
    done = mh_batch(tmp_path, "work", "--model", "demo", code=3)
    assert done.stderr == (
        "mh-batch: preload_blas: nowhere/libopenblas.so.0: no such file; "
        f"apt-get install {PACKAGE}\n"
    )
    assert rows(tmp_path, "select status from jobs") == [("queued",)]


@linux
def test_a_file_that_is_no_library_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "libblas.so.3").write_text("no library")
    configured(tmp_path, tmp_path / "libblas.so.3")
    done = mh_batch(tmp_path, "work", "--model", "demo", code=3)
    assert "libblas.so.3 was not taken, MLX calls reference BLAS" in done.stderr
    assert rows(tmp_path, "select status from jobs") == [("queued",)]


@linux
def test_the_run_says_which_blas_was_in_use(tmp_path: Path, library: Path) -> None:
    versions = "select json_extract(versions, '$.blas') from runs order by id"
    write_lines(tmp_path, ONE)
    mh_batch(tmp_path, "submit", "convos.jsonl")
    mh_batch(tmp_path, "work", "--model", "demo", code=1)
    configured_again = tmp_path / "mh-batch.toml"
    configured_again.write_text(f"[engine]\npreload_blas = '{library}'\n")
    mh_batch(tmp_path, "retry", "convos")
    mh_batch(tmp_path, "work", "--model", "demo", code=1)
    ((own,), (other,)) = rows(tmp_path, versions)
    assert str(own).startswith(REFERENCE)
    assert other == "libanother.so (libanother.so)"


@linux
def test_doctor_tells_which_blas_and_how_to_come_to_a_faster_one(
    tmp_path: Path, library: Path
) -> None:
    assert "LD_PRELOAD" not in os.environ
    site = Site(tmp_path / "mh-batch.db", tmp_path / "logs", "demo")
    (slow,) = blas(site)
    assert slow.verdict is WARNING
    assert REFERENCE in slow.text
    assert f'preload_blas = "{openblas_path()}"' in (slow.cure or "")
    (other,) = blas(Site(site.db, site.logs, "demo", str(library)))
    assert (other.verdict, other.text) == (OK, "libanother.so (libanother.so)")
    (missing,) = blas(Site(site.db, site.logs, "demo", "nowhere.so"))
    assert missing.verdict is FAILURE
    assert PACKAGE in (missing.cure or "")


def test_what_blas_means_depends_on_what_mlx_runs_on() -> None:
    assert judge_blas("gpu: NVIDIA H100", f"{REFERENCE} (libblas.so.3)", None).verdict is OK
    assert judge_blas("cpu: x", "OpenBLAS 0.3.21 Zen (libopenblas.so)", None).verdict is OK
    assert judge_blas("cpu: x", "Accelerate", None).verdict is OK
    assert judge_blas("cpu: x", f"{REFERENCE} (libblas.so.3)", None).verdict is WARNING
    assert judge_blas("cpu: x", f"{REFERENCE} (libblas.so.3)", "x.so").verdict is FAILURE


def test_the_package_is_named_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = tmp_path / "libopenblas.so.0"
    monkeypatch.setattr("mh_batch.worker.doctor.blas.openblas_path", lambda: at)
    slow = ("cpu: x", f"{REFERENCE} (libblas.so.3)", None)
    assert f"apt-get install {PACKAGE}" in (judge_blas(*slow).cure or "")
    at.touch()
    assert f"{PACKAGE} is installed: set preload_blas" in (judge_blas(*slow).cure or "")
