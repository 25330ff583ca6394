"""The demo model led astray, with real tokens: what the controller makes of it, end to end."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from helpers.command_line import mh_batch, rows, write_lines
from helpers.weather import WEATHER
from mh_batch.worker.controller.retry_policy import CHANGES, RetryReason

PARIS = {"prompt": "What is the weather in Paris?", "tools": [WEATHER]}
CONVERSATIONS: list[dict[str, object]] = [
    {
        "custom_id": "loop",
        "turns": ["Repeat the word banana for ever.", "What is 3 + 4?"],
        "max_tokens": 600,
    },
    {"custom_id": "count", "prompt": "Count from 1 to 8.", "max_tokens": 34},
    {
        "custom_id": "parts",
        "turns": ["Hello", "Hello"],
        "n": 2,
        "max_tokens": 18,
    },
    {
        "custom_id": "cut-call",
        **PARIS,
        "max_tokens": 20,
        "tool_results": {"get_weather": {"weather": "sunny"}},
    },
    {
        "custom_id": "rescue",
        "prompt": "Think for a long time about rivers.",
        "max_tokens": 24,
        "max_attempts": 2,
    },
    {"custom_id": "call", **PARIS, "n": 2},
    {"custom_id": "answered", **PARIS, "tool_results": {"get_weather": {"weather": "sunny"}}},
]


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the conversations were drained."""
    folder = tmp_path_factory.mktemp("drained")
    write_lines(folder, CONVERSATIONS)
    mh_batch(
        folder,
        *("run", "convos.jsonl", "-o", "out.jsonl", "--model", "demo", "--set", "temperature=0"),
    )
    return folder


def attempts(folder: Path, job: str, columns: str) -> list[tuple[object, ...]]:
    """Some columns of a job's attempts, in order."""
    return rows(
        folder,
        f"select {columns} from attempts as a join jobs as j on j.id = a.job_id "
        f"where j.custom_id = '{job}' order by choice, turn, step, attempt",
    )


def artifact(folder: Path, job: str, name: str) -> str:
    """The text of one of a job's files."""
    ((batch, number),) = rows(folder, f"select batch_id, id from jobs where custom_id = '{job}'")
    return (folder / "logs" / str(batch) / str(number) / name).read_text("utf-8")


def line(folder: Path, job: str) -> dict[str, object]:
    """A job's line in the results."""
    lines = map(json.loads, (folder / "out.jsonl").read_text("utf-8").splitlines())
    return next(line for line in lines if line["custom_id"] == job)


def test_everything_ends_well(drained: Path) -> None:
    assert rows(drained, "select distinct status from jobs") == [("done",)]


def test_a_loop_is_stopped_and_the_second_attempt_is_taken(drained: Path) -> None:
    first, second, _ = attempts(drained, "loop", "verdict, retry_reason, stop_reason")
    assert first == ("retry", "loop_detected", "loop_detected")
    assert second == ("accept", None, "stop_token")
    shown = mh_batch(drained, "show", "loop", "--attempts").stdout
    assert "attempt 1: retry (loop_detected)" in shown
    assert "attempt 2: accept" in shown


def test_guidance_is_in_the_attempts_prompt_artifact_and_in_no_history(drained: Path) -> None:
    guidance = CHANGES[RetryReason.LOOP_DETECTED].guidance
    prompts = [artifact(drained, "loop", f"prompt.full.{a}.txt") for a in ("1.1", "1.2", "2.1")]
    assert [guidance in prompt for prompt in prompts] == [False, True, False]
    decision = json.loads(artifact(drained, "loop", "retry.decision.1.2.json"))
    assert decision["guidance"] == guidance


def test_the_settings_are_back_for_the_next_turn(drained: Path) -> None:
    found = attempts(drained, "loop", "json_extract(sampling, '$.repetition_penalty')")
    assert found == [(1.0,), (1.1,), (1.0,)]


def test_a_count_that_runs_out_of_room_goes_on_where_it_was_cut(drained: Path) -> None:
    columns = "verdict, retry_reason, continues, rescued, json_extract(sampling, '$.max_tokens')"
    assert attempts(drained, "count", columns) == [
        ("retry", "length", 0, 0, 34),
        ("accept", None, 1, 0, 17),
    ]
    first, second = attempts(drained, "count", "seed, tokens, opening, completion_tokens")
    assert second[0] == first[0]
    assert (first[2], second[2]) == (b"", first[1])
    counted = ", ".join(map(str, range(1, 9)))
    assert rows(drained, "select final from results where custom_id = 'count'") == [(counted,)]
    # the files of both: what each drew, what it was begun with, and how both read
    drawn = [artifact(drained, "count", f"completion.raw.1.{n}.txt") for n in (1, 2)]
    assert artifact(drained, "count", "prompt.full.1.2.txt").endswith(drawn[0])
    assert "".join(drawn).endswith(f"{counted}<|return|>")
    assert artifact(drained, "count", "completion.cleaned.1.2.txt") == counted
    decision = json.loads(artifact(drained, "count", "retry.decision.1.2.json"))
    assert (decision["continues"], decision["attempt"], decision["rescued"]) == (True, 2, False)
    shown = mh_batch(drained, "show", "count", "--attempts").stdout
    assert "attempt 2: accept, goes on from attempt 1" in shown
    assert "rejected attempt" not in shown


def test_usage_counts_each_token_of_an_answer_once_and_none_of_it_as_prompt(drained: Path) -> None:
    first, second = attempts(drained, "count", "prompt_tokens, completion_tokens")
    drawn = int(str(first[1])) + int(str(second[1]))
    assert second[0] == int(str(first[0])) + int(str(first[1]))
    usage = {
        "prompt_tokens": first[0],
        "completion_tokens": drawn,
        "total_tokens": int(str(first[0])) + drawn,
    }
    assert line(drained, "count")["response"]["body"]["usage"] == usage  # type: ignore[index]
    assert rows(drained, "select tokens from results where custom_id = 'count'") == [(drawn,)]
    totals = "select sum(completion_tokens) from attempts union all select completion_tokens from"
    assert len(set(rows(drained, f"{totals} batches"))) == 1
    # of a rescue as well: its thoughts are no prompt
    first, _, third = attempts(drained, "rescue", "prompt_tokens, completion_tokens, opening")
    body = line(drained, "rescue")["response"]["body"]  # type: ignore[index]
    assert body["usage"]["prompt_tokens"] == first[0]
    assert body["usage"]["completion_tokens"] == len(third[2]) // 4 + third[1]  # type: ignore[arg-type,operator]


def test_every_turn_of_every_choice_goes_on_by_itself(drained: Path) -> None:
    found = attempts(drained, "parts", "choice, turn, attempt, continues, verdict, seed")
    assert {attempt[:2] for attempt in found} == {(0, 1), (0, 2), (1, 1), (1, 2)}
    assert any(attempt[3] for attempt in found)
    for before, after in pairwise(found):
        if after[3]:
            assert (after[:2], after[5]) == (before[:2], before[5])


def test_a_call_that_was_cut_is_whole_in_two_parts_and_its_turn_goes_on(drained: Path) -> None:
    columns = "step, attempt, continues, retry_reason, finish_reason"
    assert attempts(drained, "cut-call", columns)[:2] == [
        (0, 1, 0, "length", "length"),
        (0, 2, 1, None, "tool_calls"),
    ]
    body = line(drained, "cut-call")["response"]["body"]  # type: ignore[index]
    assert "sunny" in body["choices"][0]["message"]["content"]


def test_an_analysis_that_ate_its_budget_is_rescued(drained: Path) -> None:
    columns = "verdict, rescued, raw, length(opening) / 4, continues"
    first, second, last = attempts(drained, "rescue", columns)
    assert [(a[0], a[1], a[3], a[4]) for a in (first, second)] == [
        ("retry", 0, 0, 0),
        ("retry", 0, 24, 1),
    ]
    assert last[:2] == ("accept", 1)
    # all that was thought in both attempts
    assert int(str(last[3])) > 24 + 12
    ((final, analysis, rescued),) = rows(
        drained,
        "select final, analysis, rescued from turns as t join jobs as j on j.id = t.job_id"
        " where custom_id = 'rescue'",
    )
    assert rescued == 1
    # what it said, and the whole of what it had thought before
    assert str(last[2]).startswith(str(final))
    assert str(analysis) in f"{first[2]}{second[2]}"
    prompt = artifact(drained, "rescue", "prompt.full.1.3.txt")
    assert prompt.endswith(f"{analysis}<|end|><|start|>assistant<|channel|>final<|message|>")
    assert "rescued" in mh_batch(drained, "show", "rescue", "--attempts").stdout


def test_the_summary_and_the_data_sets_tell_of_what_was_rescued(drained: Path) -> None:
    assert rows(drained, "select custom_id from results where rescued") == [("rescue",)]
    assert rows(drained, "select rescued from batches") == [(1,)]
    again = mh_batch(drained, "results", "--format", "messages", "-o", "train.jsonl").stderr
    left_out = "1 conversation with rescued answers left out, 1 job as a whole"
    assert f"{left_out}; --rescued keep takes them too" in again
    ((answer,),) = rows(drained, "select final from results where rescued")
    again = mh_batch(
        drained,
        *("run", "convos.jsonl", "--model", "demo", "--set", "temperature=0"),
        *("--format", "sharegpt", "--rescued", "only", "-o", "only.jsonl"),
    ).stderr
    assert "1 line in only.jsonl" in again
    only = (drained / "only.jsonl").read_text()
    assert json.loads(only)["conversations"][-1] == {"from": "gpt", "value": answer}


def test_a_tool_call_ends_the_job_and_is_in_the_results_as_openai_has_it(drained: Path) -> None:
    assert rows(
        drained,
        "select channel, recipient, text from channels as c join attempts as a on"
        " a.id = c.attempt_id join jobs as j on j.id = a.job_id"
        " where custom_id = 'call' and choice = 0 and recipient is not null",
    ) == [("commentary", "functions.get_weather", '{"city":"Paris"}')]
    choices = line(drained, "call")["response"]["body"]["choices"]  # type: ignore[index]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert {choice["finish_reason"] for choice in choices} == {"tool_calls"}
    (call,) = choices[0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}


def test_each_completion_of_a_prompt_has_a_seed_of_its_own(drained: Path) -> None:
    found = attempts(drained, "call", "choice, seed")
    assert [choice for choice, _ in found] == [0, 1]
    assert len({seed for _, seed in found}) == 2


def test_a_scripted_tool_lets_the_turn_go_on_to_its_answer(drained: Path) -> None:
    found = attempts(drained, "answered", "turn, step, finish_reason")
    assert found == [(1, 0, "tool_calls"), (1, 1, "stop")]
    prompt = artifact(drained, "answered", "prompt.full.1.1.1.txt")
    assert '{"weather": "sunny"}' in prompt
    body = line(drained, "answered")["response"]["body"]  # type: ignore[index]
    assert "sunny" in body["choices"][0]["message"]["content"]


@pytest.mark.parametrize("table", ["timings", "parses"])
def test_every_attempt_is_in_every_table(drained: Path, table: str) -> None:
    ((made,),) = rows(drained, "select count(*) from attempts")
    assert rows(drained, f"select count(distinct attempt_id) from {table}") == [(made,)]
