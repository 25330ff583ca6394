"""Each recipe of the cookbook answers its question about a real night."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from helpers.command_line import mh_batch
from helpers.queries import query
from helpers.store_samples import DONE, attempt, claim, lines, start, submit, turn
from mh_batch.store import queue
from mh_batch.store.connection import open_store
from mh_batch.store.reports.query import recipe, recipes

Row = dict[str, Any]


def rows(night: Path, name: str) -> list[Row]:
    columns, found = query(night / "mh-batch.db", recipe(name).sql)
    return [dict(zip(columns, row, strict=True)) for row in found]


def by(key: str, found: list[Row]) -> dict[Any, Row]:
    return {row[key]: row for row in found}


def test_outcomes(night: Path) -> None:
    found = [(r["batch"], r["status"], r["jobs"], r["percent"]) for r in rows(night, "outcomes")]
    assert found[0] == ("example", "done", 8, 100.0)
    assert sorted(found[1:]) == [
        ("trouble", "done", 2, 50.0),
        ("trouble", "failed", 1, 25.0),
        ("trouble", "incomplete", 1, 25.0),
    ]


def test_categories(night: Path) -> None:
    (found,) = rows(night, "categories")
    assert (found["batch"], found["category"], found["status"]) == ("example", "follow-up", "done")
    assert found["jobs"] == 1
    assert found["tokens"] > 0


def test_pairs(night: Path) -> None:
    pairs = [json.loads(r["pair"]) for r in rows(night, "pairs")]
    assert pairs[0]["user"] == "What is 17 + 25?"
    assert pairs[0]["final"] == "17 + 25 = 42"
    assert [p["turn"] for p in pairs if p["custom_id"] == "long"] == [1, 2, 3, 4]
    assert "count" not in {p["custom_id"] for p in pairs}


def test_slowest(night: Path) -> None:
    found = rows(night, "slowest")
    times = [r["model_seconds"] for r in found]
    assert times == sorted(times, reverse=True)
    assert all(r["model_seconds"] > 0 and r["tokens"] > 0 for r in found)
    assert by("custom_id", found)["long"]["attempts"] == 4


def test_unsuccessful(night: Path) -> None:
    found = by("custom_id", rows(night, "unsuccessful"))
    assert found.keys() == {"count", "too-long"}
    assert (found["count"]["status"], found["count"]["turn"]) == ("incomplete", 1)
    assert found["count"]["reason"] == "length"
    assert found["count"]["attempts_of_that_turn"] == 2
    assert (found["too-long"]["status"], found["too-long"]["turn"]) == ("failed", None)
    assert found["too-long"]["reason"] == "prompt_too_long"
    assert "256" in found["too-long"]["detail"]


def test_retries(night: Path) -> None:
    (found,) = [r for r in rows(night, "retries") if r["reason"] == "length"]
    assert (found["attempt"], found["accepted"] <= found["retries"]) == (2, True)


def test_tokens_per_hour(night: Path) -> None:
    found = rows(night, "tokens_per_hour")
    ((total,),) = query(night / "mh-batch.db", "SELECT sum(completion_tokens) FROM attempts")[1]
    assert sum(r["completion_tokens"] for r in found) == total > 0
    assert all(r["tokens_per_second"] > 0 for r in found)


def test_speed_by_context(night: Path) -> None:
    (found,) = rows(night, "speed_by_context")
    assert (found["kv_from"], found["kv_to"]) == (0, 1023)
    assert found["tokens_per_second"] > 0


def test_parses(night: Path) -> None:
    found = rows(night, "parses")
    assert found[0]["well_formed"] == 1
    assert found[0]["problem"] == ""
    cut = by("problem", found)["truncated"]
    assert (cut["well_formed"], cut["accepted"]) == (0, 0)
    assert cut["attempts"] >= 2


def test_tool_calls(night: Path) -> None:
    (found,) = rows(night, "tool_calls")
    assert found["custom_id"] == "tool"
    assert found["function"] == "functions.get_weather"
    assert json.loads(found["arguments"]) == {"city": "Paris"}


def test_longest_analyses(night: Path) -> None:
    found = rows(night, "longest_analyses")
    lengths = [r["characters"] for r in found]
    assert lengths == sorted(lengths, reverse=True)
    assert all(r["begins"] for r in found)


def test_dropped_turns(night: Path) -> None:
    (found,) = rows(night, "dropped_turns")
    assert found["custom_id"] == "long"
    assert found["dropped_turns"] >= 1
    assert found["first_at_turn"] >= 2


def test_crashes(night: Path) -> None:
    (found,) = rows(night, "crashes")
    assert (found["custom_id"], found["signal"], found["job_now"]) == ("count", 6, "incomplete")
    assert found["stderr_tail"] == "command buffer <lost>"


def test_memory(night: Path) -> None:
    for row in rows(night, "memory"):
        assert row["process_mib"] > row["model_peak_mib"] >= row["model_active_mib"] > 0


def test_waiting(night: Path) -> None:
    (found,) = rows(night, "waiting")
    assert found["end_reason"] == "queue_empty"
    assert 0 <= found["mean_seconds"] <= found["longest_seconds"] <= found["waited_seconds"]
    ((attempts,),) = query(night / "mh-batch.db", "SELECT count(*) FROM attempts")[1]
    assert found["attempts"] == attempts


def test_slots(night: Path) -> None:
    found = rows(night, "slots")
    assert [(r["batch"], r["parallel"], r["busy"]) for r in found] == [
        ("example", 1, 1.0),
        ("trouble", 1, 1.0),
    ]
    assert all(r["tokens_per_second"] > 0 and r["stall_seconds"] == 0 for r in found)
    ((seconds,),) = query(night / "mh-batch.db", "SELECT sum(machine_seconds) FROM timings")[1]
    assert sum(r["machine_seconds"] for r in found) == pytest.approx(seconds, abs=0.02)


def test_fields(tmp_path: Path) -> None:
    path = tmp_path / "mh-batch.db"
    with closing(open_store(path)) as db:
        submit(db, lines(3))
        run_id = start(db)
        for parsed in ('{"name": "Ada", "born": 1815}', '{"name": "Ada", "born": null}', "[1]"):
            job = claim(db, run_id)
            queue.record(db, job.id, run_id, attempt(), replace(turn(), parsed=parsed), DONE)
    _, found = query(path, recipe("fields").sql)
    assert [tuple(row) for row in found] == [
        (1, "night", "born", 2, "integer,null", 1),
        (1, "night", "name", 2, "text", 1),
    ]


def test_every_recipe_is_tested_here() -> None:
    assert {f"test_{name}" for name in recipes()} <= globals().keys()


def test_a_person_can_run_a_recipe_by_name(night: Path) -> None:
    listed = mh_batch(night, "query", "--list").stdout
    for name, entry in recipes().items():
        assert name in listed
        assert entry.about in listed
    as_json = mh_batch(night, "query", "--list", "--json").stdout.splitlines()
    assert [json.loads(row)["recipe"] for row in as_json] == list(recipes())
    assert mh_batch(night, "query", "--list", "--csv").stdout.startswith("recipe,question")
    out = mh_batch(night, "query", "--recipe", "tool_calls", "--json").stdout
    assert json.loads(out)["custom_id"] == "tool"
    assert "did you mean slowest?" in mh_batch(night, "query", "--recipe", "slow", code=2).stderr


@pytest.mark.parametrize("more", [[], ["SELECT 1", "--list"], ["SELECT 1", "--recipe", "pairs"]])
def test_a_query_is_one_thing(night: Path, more: list[str]) -> None:
    assert "one of SQL, --recipe NAME, --list" in mh_batch(night, "query", *more, code=2).stderr
