"""Whatever a line holds: it is refused with a reason, or its job ends. `make soak` runs it."""

import json
from collections import Counter
from pathlib import Path

import pytest

from helpers.command_line import mh_batch_process, rows
from soak.fuzz import SHAPES, lines

pytestmark = pytest.mark.slow

SEED = 11
COUNT = 20_000
SETTINGS = ("max_tokens=4", "max_attempts=1", "max_steps=2")


@pytest.mark.timeout(7200)
def test_twenty_thousand_lines_with_something_wrong_are_refused_or_end(tmp_path: Path) -> None:
    file = tmp_path / "fuzz.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in lines(COUNT, SEED)))
    flags = [part for setting in SETTINGS for part in ("--set", setting)]
    demo = ("--model", "demo", "--override-model")
    said = mh_batch_process(tmp_path, "submit", file.name, "--skip-bad", *demo, *flags).stderr
    refused = Path(f"{file}.rejected.jsonl").read_text().splitlines()
    ((landed,),) = rows(tmp_path, "SELECT count(*) FROM jobs")
    assert landed + len(refused) == COUNT
    assert landed > COUNT / 10
    said += mh_batch_process(
        tmp_path, "work", "--artifacts", "retries", code=1, timeout=7000
    ).stderr
    statuses: dict[str, int] = dict(rows(tmp_path, "SELECT status, count(*) FROM jobs GROUP BY 1"))
    codes: dict[str | None, int] = dict(
        rows(tmp_path, "SELECT error_code, count(*) FROM jobs GROUP BY 1")
    )
    print(f"\n{landed:,} of {COUNT:,} lines of {len(SHAPES)} shapes landed: {statuses}, {codes}")
    reasons = Counter(json.loads(line)["reason"].split(":")[-1][:40] for line in refused)
    print(*(f"  {number:>5} {reason}" for reason, number in reasons.most_common(8)), sep="\n")
    assert statuses.keys() <= {"done", "incomplete", "failed"}
    assert "internal_error" not in codes
    assert rows(tmp_path, "SELECT count(*) FROM crashes") == [(0,)]
    for command in ("status", "timings", "results", "report -o r.html", "results --format csv"):
        said += mh_batch_process(tmp_path, *command.split()).stderr
    assert "Traceback" not in said + (tmp_path / "logs" / "worker.log").read_text()
