"""The same work leaves the same bytes, whatever the hash seed of the processes that did it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from helpers.command_line import rows

LINES = """
{"custom_id": "one", "prompt": "Hi", "zeta": 1, "alpha": {"k": 2}, "mid": 3, "b": 4}
{"custom_id": "two", "body": {"messages": [{"role": "user", "content": "Hello"}], \
"n": 2, "xtc_probability": 0.5, "stop": ["zz", "qq"]}, "w": 3, "y": 1, "x": 2}
"""
# runs one command after the other, so that what they import is imported once
COMMANDS = """
import json, sys
from mh_batch.worker.cli import main
for arguments in json.loads(sys.argv.pop()):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, arguments
"""
FORMATS = ("messages", "completion", "sharegpt")
STORED = (
    "SELECT custom_id, request, metadata, status FROM jobs ORDER BY id",
    "SELECT seed, sampling, tokens, raw, prompt_sha256 FROM attempts ORDER BY id",
    "SELECT rung, problems FROM parses ORDER BY id",
    "SELECT settings FROM batches",
)


def left_behind(folder: Path, hash_seed: int) -> list[object]:
    """Run the lines in `folder` and return all that is no time."""
    folder.mkdir()
    (folder / "in.jsonl").write_text(LINES.lstrip())
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")}
    commands = [
        ["run", "in.jsonl", "-o", "out.jsonl", "--model", "demo"],
        *(["results", "--format", form, "-o", f"out.{form}"] for form in FORMATS),
    ]
    subprocess.run(
        [sys.executable, "-P", "-c", COMMANDS, json.dumps(commands)],
        cwd=folder,
        env={**kept, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        timeout=300,
        check=True,
    )
    artifacts = sorted((folder / "logs" / "1").rglob("*.*"))
    return [
        *((folder / f"out.{form}").read_bytes() for form in FORMATS),
        *((path.relative_to(folder), path.read_bytes()) for path in artifacts),
        *(rows(folder, sql) for sql in STORED),
    ]


def test_the_same_work_leaves_the_same_bytes(tmp_path: Path) -> None:
    first = left_behind(tmp_path / "first", 1)
    assert len(first) > 20
    assert left_behind(tmp_path / "other", 2) == first
