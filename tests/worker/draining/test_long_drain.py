"""Long drains of odd conversations; they print what they saw: `make soak`, or pytest -m slow -s."""

import json
from collections import Counter
from pathlib import Path

import pytest

from helpers.command_line import mh_batch_process, rows, write_lines
from helpers.weather import WEATHER

DRAIN_SECONDS = 3600
pytestmark = [pytest.mark.slow, pytest.mark.timeout(DRAIN_SECONDS + 300)]

CITIES = ("Paris", "Rome", "Oslo", "Lima", "Cairo")
TURNS = 200
CONTEXT = 1024


def conversations(count: int) -> list[dict[str, object]]:
    """Sums, follow-ups, counts, calls, poems, loops and endless thoughts, in turn."""
    made: list[dict[str, object]] = []
    for n in range(count):
        kinds: list[dict[str, object]] = [
            {"prompt": f"What is {n % 80 + 10} + {n % 17 + 3}?"},
            {"turns": [f"What is {n % 50 + 10} + 9?", "Now add 5."]},
            {"prompt": f"Count from {n % 30} to {n % 30 + 12}."},
            {
                "prompt": f"What is the weather in {CITIES[n % len(CITIES)]}?",
                "tools": [WEATHER],
                "tool_results": {"get_weather": {"weather": "sunny"}},
            },
            {"prompt": "Write a poem about the sea.", "reasoning_effort": "low"},
            {"prompt": "Repeat the word banana for ever."},
            {"prompt": "Think for a long time about rivers."},
            {"prompt": "Hello", "system": "You are a poet."},
        ]
        made.append({"custom_id": f"wild-{n}", **kinds[n % len(kinds)]})
    return made


def test_five_hundred_conversations_at_temperature_1_2_end_well_or_say_how_not(
    tmp_path: Path,
) -> None:
    write_lines(tmp_path, conversations(500))
    settings = ("--set", "temperature=1.2", "--set", "max_tokens=32")
    mh_batch_process(tmp_path, "submit", "convos.jsonl", *settings)
    drained = ("work", "--model", "demo", "--artifacts", "off")
    mh_batch_process(tmp_path, *drained, code=1, timeout=DRAIN_SECONDS)
    report("status", rows(tmp_path, "SELECT status, count(*) FROM jobs GROUP BY 1"))
    rungs = "SELECT rung || iif(well_formed, ', well formed', ''), count(*) FROM parses GROUP BY 1"
    report("rung", rows(tmp_path, rungs))
    reasons = "SELECT coalesce(retry_reason, 'accepted'), count(*) FROM attempts GROUP BY 1"
    report("attempts", rows(tmp_path, reasons))
    report(
        "rescues",
        rows(
            tmp_path,
            "SELECT iif(verdict = 'accept', 'accepted', 'not accepted'), count(*) FROM attempts"
            " WHERE rescued GROUP BY 1",
        ),
    )
    problems = rows(tmp_path, "SELECT problems FROM parses WHERE NOT well_formed")
    found_problems = Counter(problem for (text,) in problems for problem in json.loads(str(text)))
    report("problems", list(found_problems.most_common()))
    statuses = {str(status) for (status,) in rows(tmp_path, "SELECT DISTINCT status FROM jobs")}
    assert statuses <= {"done", "incomplete"}
    assert rows(tmp_path, "SELECT count(*) FROM crashes") == [(0,)]
    assert rows(tmp_path, "PRAGMA foreign_key_check") == []


def report(what: str, counts: list[tuple[object, ...]]) -> None:
    """Print counts with their shares."""
    total = sum(int(str(count)) for _, count in counts)
    for name, count in counts:
        print(f"{what:>9}  {name!s:<28} {count!s:>5}  {int(str(count)) / total:6.1%}")


def test_a_conversation_of_200_turns_stays_within_its_context_and_drops_oldest_turns_first(
    tmp_path: Path,
) -> None:
    turns = [f"What is {n % 80 + 10} + {n % 17 + 3}?" for n in range(TURNS)]
    write_lines(tmp_path, [{"custom_id": "long", "system": "You add numbers.", "turns": turns}])
    settings = ("--set", f"max_context_tokens={CONTEXT}", "--set", "max_tokens=128")
    mh_batch_process(tmp_path, "submit", "convos.jsonl", *settings, "--set", "temperature=0")
    mh_batch_process(
        tmp_path, "work", "--model", "demo", "--artifacts", "off", timeout=DRAIN_SECONDS
    )
    found = rows(
        tmp_path,
        "SELECT a.turn, a.prompt_tokens, a.dropped_turns, m.reused_tokens, a.sampling"
        " FROM attempts AS a JOIN timings AS m ON m.attempt_id = a.id ORDER BY a.id",
    )
    print(f"{'turn':>6}{'prompt':>8}{'dropped':>9}{'reused':>8}{'room':>6}")
    for turn, prompt, dropped, reused, sampling in found:
        room = json.loads(str(sampling))["max_tokens"]
        assert int(str(prompt)) + room < CONTEXT
        if int(str(turn)) % 10 == 0:
            print(f"{turn!s:>6}{prompt!s:>8}{dropped!s:>9}{reused!s:>8}{room:>6}")
    gone = [int(str(dropped)) for _, _, dropped, _, _ in found]
    assert gone == sorted(gone)
    assert gone[0] == 0
    # of the last turns those remain that the low-water mark leaves, and no fewer
    assert 0 < gone[-1] < TURNS
    assert len(found) >= TURNS
