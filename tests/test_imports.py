"""Imports run one way, and the quick commands stay quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "jobs": {"jobs"},
    "store": {"store", "jobs"},
    "engine": {"engine", "jobs"},
    "worker": {"worker", "engine", "store", "jobs"},
}
LATE = ("sqlite_utils", "rich", "anyio", "psutil", "huggingface_hub")
HEAVY = ("mlx", "mlx_lm", "transformers", "openai_harmony")


def imported_modules(path: Path) -> set[str]:
    """Every absolute module name that a file imports, at any depth."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules.add(node.module)
            if node.module == "mh_batch":
                modules |= {f"mh_batch.{alias.name}" for alias in node.names}
    return modules


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_the_design_allows(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        ours = {m.split(".")[1] for m in imported_modules(path) if m.startswith("mh_batch.")}
        assert ours <= MAY_IMPORT[folder], f"{path} imports {ours - MAY_IMPORT[folder]}"


def test_jobs_needs_only_msgspec_beyond_the_standard_library() -> None:
    for path in (ROOT / "jobs").rglob("*.py"):
        for module in imported_modules(path):
            top = module.split(".")[0]
            assert top in sys.stdlib_module_names or top in {"msgspec", "mh_batch"}, (
                f"{path}: {top}"
            )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["submit", "in.jsonl"],
        ["status"],
        ["results", "-o", "out.jsonl"],
        ["query", "select count(*) from jobs"],
        ["timings"],
        ["report", "-o", "out.html"],
    ],
    ids=lambda a: a[0],
)
def test_a_command_that_needs_no_model_imports_none_of_its_libraries(
    arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "Hello"}\n')
    main = "from mh_batch.worker.cli import main; main()"
    if arguments[0] not in ("--help", "submit"):
        submit = [sys.executable, "-c", main, "submit", "in.jsonl"]
        subprocess.run(submit, cwd=tmp_path, check=True, timeout=60)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", main, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "mh_batch.worker.cli" in imported
    assert not {m for m in imported if m.split(".")[0] in HEAVY}


def test_help_imports_only_what_it_prints() -> None:
    main = "from mh_batch.worker.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", main, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not {m for m in imported if m.split(".")[0] in LATE}


def test_one_module_says_how_a_python_process_of_ours_begins() -> None:
    naming = {
        str(path.relative_to(ROOT))
        for folder in MAY_IMPORT
        for path in (ROOT / folder).rglob("*.py")
        if "sys.executable" in path.read_text()
    }
    assert naming == {"worker/child.py"}
