"""What is installed is whole: the demo model, the SQL and the type marks are in the wheel."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the tree."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("worker", "engine", "jobs", "store"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", build],
        cwd=copy,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return zipfile.ZipFile(copy / done.stdout.splitlines()[-1])


def test_every_source_file_is_in_the_wheel_under_one_name(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if name.endswith((".py", ".sql", ".jinja"))}
    sources = {
        # the package itself is a folder of its own, since each of the others has its name
        f"mh_batch/{path.relative_to(ROOT)}".replace("mh_batch/worker/package/", "mh_batch/")
        for folder in ("worker", "engine", "jobs", "store")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".sql", ".jinja")
        # what made the demo model is in the repository only
        if (ROOT / "engine" / "demo" / "training") not in path.parents
    }
    assert packed == sources
    assert {name.split("/")[0] for name in wheel.namelist()} <= {
        "mh_batch",
        next(n.split("/")[0] for n in wheel.namelist() if ".dist-info" in n),
    }


def test_the_wheel_holds_the_demo_model_and_the_type_marks(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder in ("worker", "engine", "jobs", "store"):
        assert f"mh_batch/{folder}/py.typed" in names
    assert "mh_batch/py.typed" in names
    for name in ("config.json", "model.safetensors", "MODEL_CARD.md", "example.jsonl"):
        assert f"mh_batch/engine/demo/{name}" in names
    assert sum(entry.compress_size for entry in wheel.infolist()) < 20 * MIB
    assert sum(entry.file_size for entry in wheel.infolist()) < 30 * MIB


def test_the_command_is_installed_as_mh_batch(wheel: zipfile.ZipFile) -> None:
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "mh-batch = mh_batch.worker.cli:main" in wheel.read(entry).decode()


def test_the_version_is_that_of_the_latest_release_in_the_changelog(
    wheel: zipfile.ZipFile,
) -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "UNRELEASED"
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    assert f"\nVersion: {headings[1]}\n" in wheel.read(metadata).decode()


def test_the_workflow_runs_each_python_that_the_package_names(wheel: zipfile.ZipFile) -> None:
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    named = re.findall(r"Programming Language :: Python :: (3\.\d+)", wheel.read(metadata).decode())
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    assert f"python: [{', '.join(repr(one) for one in named)}]".replace("'", '"') in workflow
    assert "make demo" in workflow
    assert "make test" in workflow
