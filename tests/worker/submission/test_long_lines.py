"""Lines of 30 MiB, whatever they hold, are taken in with less than 300 MB of memory."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

LINE_BYTES = 30 << 20
MOST_BYTES = 300_000_000
SUBMIT = """
from mh_batch.worker.bench.usage import peak_memory
from mh_batch.worker.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(peak_memory())
"""
MESSAGE = b'{"role":"user","content":"What is the weather like today, my friend?"}'
NESTED = b"[" * 100 + b"]" * 100


def long_text() -> bytes:
    """One character beyond 16 bits, and Python takes four bytes for each of the others."""
    return b'{"prompt":"' + b"word " * (LINE_BYTES // 5) + "\U0001f600".encode() + b'"}'


def many_messages() -> bytes:
    return b'{"messages":[' + b",".join([MESSAGE] * (LINE_BYTES // (len(MESSAGE) + 1))) + b"]}"


def deep_metadata() -> bytes:
    return b'{"prompt":"x","m":[' + b",".join([NESTED] * (LINE_BYTES // 201)) + b"]}"


@pytest.mark.parametrize("shape", [long_text, many_messages, deep_metadata])
def test_memory_stays_small_whatever_a_long_line_holds(
    shape: Callable[[], bytes], tmp_path: Path
) -> None:
    with (tmp_path / "in.jsonl").open("wb") as out:
        line = shape()
        # what one line leaves behind shows at the next
        for _ in range(2):
            out.write(line + b"\n")
        del line
    done = subprocess.run(
        [sys.executable, "-P", "-c", SUBMIT, "submit", "in.jsonl"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")},
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    assert done.stderr == "batch 1 (in): 2 jobs queued\n"
    assert int(done.stdout) < MOST_BYTES
