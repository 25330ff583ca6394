"""Imports run one way, and the quick commands stay quick."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from helpers.paths import ROOT

MAY_IMPORT = {
    "jobs": {"jobs"},
    "store": {"store", "jobs"},
    "engine": {"engine", "jobs"},
    "worker": {"worker", "engine", "store", "jobs"},
}
WORKER = {
    "cli": {"commands"},
    "commands": {
        "acceptance", "bench", "config", "controller", "doctor", "draining", "model_choice",
        "options", "output", "progress", "runtime", "selftest", "server", "slots_key", "submission",
        "text", "trial",
    },
    "server": {"draining", "options", "progress", "runtime", "submission", "text"},
    "trial": {"draining", "options", "progress", "text"},
    "acceptance": {"controller", "runtime"},
    "selftest": {"model_process", "options"},
    "bench": {
        "draining", "model_process", "options", "output", "progress", "runtime", "submission",
        "text",
    },
    "doctor": {
        "model_process", "options", "output", "progress", "runtime", "submission", "text"
    },
    "api": {
        "acceptance", "draining", "model_choice", "options", "progress", "runtime", "submission",
        "text",
    },
    "package": {"api"},
    "progress": {"draining", "runtime", "text"},
    "submission": {"acceptance", "controller", "model_process", "runtime", "text"},
    "draining": {
        "acceptance", "controller", "files", "model_process", "options", "runtime", "slots_key",
        "text",
    },
    "output": {"runtime", "text"},
    "model_process": {"options", "runtime"},
    "controller": {"text"},
    "model_choice": {"config"},
    "config": {"options"},
    "runtime": set(),
    "options": set(),
    "files": set(),
    "slots_key": set(),
    "text": set(),
}  # fmt: skip
ENGINE = {
    "measure": {"fit", "model"},
    "attempt": {
        "adapter", "completion_reader", "constraint", "decoding", "fit", "kv_cache", "timings"
    },
    "slots": {
        "attempt", "constraint", "decoding", "kv_cache", "mlx_lm_internals", "timings"
    },
    "selftest": {"decoding", "kv_cache", "slots"},
    "generate": {
        "attempt", "constraint", "decoding", "fit", "kv_cache", "model", "selftest", "slots",
        "timings"
    },
    "timings": {"decoding", "kv_cache"},
    "completion_reader": {"adapter", "adapter_choice", "decoding", "model", "parsing"},
    "model": {"adapter", "adapter_choice", "demo", "mlx_lm_internals"},
    "adapter_choice": {"adapter", "chat_template", "harmony"},
    "harmony": {"constraint", "decoding", "kv_cache", "parsing"},
    "chat_template": {"constraint", "kv_cache", "mlx_lm_internals", "parsing"},
    "adapter": {"kv_cache"},
    "fit": set(),
    "demo": set(),
    "constraint": set(),
    "decoding": set(),
    "kv_cache": {"mlx_lm_internals"},
    "mlx_lm_internals": set(),
    "parsing": set(),
}  # fmt: skip
STORE = {
    "server": {"clock", "connection", "counts", "lock", "lookup", "reports"},
    "reports": {"connection", "counts", "faults", "lookup", "queue", "sql"},
    "changes": {
        "clock",
        "connection",
        "counts",
        "deletion",
        "faults",
        "lock",
        "lookup",
        "queue",
    },
    "queue": {"clock", "connection", "counts", "deletion", "lock", "lookup", "selftests", "sql"},
    "deletion": {"connection"},
    "selftests": {"clock", "connection"},
    "counts": {"connection"},
    "lookup": {"connection"},
    "connection": {"faults", "inspection", "lock", "migrations"},
    "inspection": {"faults", "migrations"},
    "migrations": {"sql"},
    "clock": set(),
    "faults": set(),
    "lock": set(),
    "sql": set(),
}
JOBS = {
    "results": {"conversation", "errors", "generation", "record", "status"},
    "jsonl": {
        "answers", "conversation", "errors", "did_you_mean", "foreign", "models", "record",
        "settings",
    },
    "foreign": set(),
    "seeds": {"record"},
    "record": {"conversation", "errors", "generation", "settings", "status"},
    "generation": {"answers", "conversation", "settings"},
    "settings": {"answers", "errors", "did_you_mean", "foreign", "setting_values"},
    "setting_values": {"errors"},
    "answers": {"errors", "did_you_mean"},
    "conversation": set(),
    "errors": set(),
    "did_you_mean": set(),
    "models": set(),
    "selftest": set(),
    "files": set(),
    "status": set(),
}  # fmt: skip
INSIDE = {"worker": WORKER, "engine": ENGINE, "store": STORE, "jobs": JOBS}
"""What a folder or file of each top-level folder may import of the others in it."""

MOST_FILES = 12
TRAINING = ROOT / "engine" / "demo" / "training"

LATE = ("sqlite_utils", "rich", "anyio", "psutil", "huggingface_hub")
HEAVY = ("mlx", "mlx_lm", "transformers", "openai_harmony")


def module_name(path: Path) -> str:
    """The name that a file of the source folders has as a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("mh_batch", *(parts[:-1] if parts[-1] == "__init__" else parts)))


SOURCES = {module_name(path): path for top in MAY_IMPORT for path in (ROOT / top).rglob("*.py")}


def imported_modules(name: str) -> set[str]:
    """Every module that a module imports, at any depth and for type checkers too."""
    path, modules = SOURCES[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else ()), *filter(None, [node.module])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                modules.add(full if full in SOURCES else base)
    return modules


IMPORTS = {name: imported_modules(name) for name in SOURCES}


def parts_imported(top: str) -> Iterator[tuple[str, str, str]]:
    """Each import between two folders or files of a top-level folder, and where it stands."""
    for name, modules in IMPORTS.items():
        own = name.split(".")
        for module in modules:
            other = module.split(".")
            if own[1] == top == ".".join(other[1:2]) and own[2:3] != other[2:3] and own[2:]:
                yield name, own[2], ".".join(other[2:3])


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_the_design_allows(folder: str) -> None:
    ours = [name for name in SOURCES if name.split(".")[1] == folder]
    assert ours
    for name in ours:
        tops = {m.split(".")[1] for m in IMPORTS[name] if m.startswith("mh_batch.")}
        assert tops <= MAY_IMPORT[folder], f"{name} imports {tops - MAY_IMPORT[folder]}"


@pytest.mark.parametrize("top", INSIDE)
def test_inside_a_folder_imports_run_one_way(top: str) -> None:
    for name, own, other in parts_imported(top):
        assert other in INSIDE[top].get(own, set()), f"{name} imports {top}/{other}"


@pytest.mark.parametrize("top", INSIDE)
def test_the_ways_that_imports_run_make_no_cycle(top: str) -> None:
    tuple(TopologicalSorter(INSIDE[top]).static_order())  # raises CycleError


def test_no_modules_import_each_other_in_a_circle() -> None:
    ours = {name: modules & SOURCES.keys() - {name} for name, modules in IMPORTS.items()}
    tuple(TopologicalSorter(ours).static_order())  # raises CycleError


@pytest.mark.parametrize("top", MAY_IMPORT)
def test_a_folder_has_at_most_twelve_files(top: str) -> None:
    # the scripts that trained the demo model are not part of what is installed
    files = [
        p for p in SOURCES.values() if p.is_relative_to(ROOT / top) and TRAINING not in p.parents
    ]
    most, folder = max((n, folder) for folder, n in Counter(p.parent for p in files).items())
    assert most <= MOST_FILES, f"{folder} has {most} files"


def test_only_the_harmony_adapter_needs_openai_harmony() -> None:
    # the script that trains the demo model is no part of what is installed for use
    folders = {name.rpartition(".")[0] for name in IMPORTS if "openai_harmony" in IMPORTS[name]}
    assert folders == {"mh_batch.engine.harmony", "mh_batch.engine.demo.training"}


def test_jobs_needs_only_msgspec_beyond_the_standard_library() -> None:
    for name in SOURCES:
        if name.split(".")[1] == "jobs":
            tops = {module.split(".")[0] for module in IMPORTS[name]}
            assert tops <= sys.stdlib_module_names | {"msgspec", "mh_batch"}, name


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["submit", "in.jsonl"],
        ["submit", "in.jsonl", "--schema", "schema.json"],
        ["status"],
        ["results", "-o", "out.jsonl"],
        ["query", "select count(*) from jobs"],
        ["timings"],
        ["report", "-o", "out.html"],
    ],
    ids=lambda a: " ".join(a[::2]),
)
def test_a_command_that_needs_no_model_imports_none_of_its_libraries(
    arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "Hello"}\n')
    (tmp_path / "schema.json").write_text('{"type": "object"}')
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
    # sqlite-utils would import both, wherever they are installed
    unwanted = (*HEAVY, "numpy", "pandas")
    assert not {m for m in imported if m.split(".")[0] in unwanted}


def test_a_form_is_checked_without_a_model() -> None:
    waiting, seen = ["mh_batch.engine.constraint.check"], set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting += (IMPORTS[name] & SOURCES.keys()) - seen
    imported = {module.split(".")[0] for name in seen for module in IMPORTS[name]}
    assert "llguidance" in imported
    assert imported.isdisjoint(HEAVY)


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
    assert naming == {"worker/runtime/child.py"}
