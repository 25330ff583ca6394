"""Files as other tools and data sets have them go in unchanged, and nothing of them is lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import mh_batch, rows
from mh_batch.jobs.conversation import Message, Request
from mh_batch.store import open_reader
from mh_batch.store.queue.submit import landed_lines
from mh_batch.worker import submit

# as in OpenAI's guide to batches
OPENAI = """\
{"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-3.5-turbo-0125", "messages": [{"role": "system", "content": "You are a helpful assistant."},{"role": "user", "content": "Hello world!"}],"max_tokens": 1000}}
{"custom_id": "request-2", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-3.5-turbo-0125", "messages": [{"role": "system", "content": "You are an unhelpful assistant."},{"role": "user", "content": "Hello world!"}],"max_tokens": 1000}}
"""  # noqa: E501
SHAREGPT = """\
{"id": "QWJhYvA_0", "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi!"}, {"from": "human", "value": "What is 8 + 7?"}, {"from": "gpt", "value": "15"}], "model_name": "gpt-4", "lang": "en"}
{"id": "i6IyJda_0", "conversations": [{"from": "system", "value": "Be brief.", "weight": 0}, {"from": "human", "value": "Who are you?", "markdown": null}, {"from": "gpt", "value": "A model.", "weight": 1}]}
"""  # noqa: E501
ALPACA = """\
{"instruction": "Give three tips for staying healthy.", "input": "", "output": "1. Eat well.", "text": "Below is an instruction."}
{"instruction": "Translate to English.", "input": "Guten Tag", "output": "Good day"}
"""  # noqa: E501
PROMPTS = """\
{"prompt": "What is the capital of France?", "completion": " Paris", "prompt_id": "f0e37e9f7800261167ce91143f98f511"}
{"prompt": "Write a haiku about rain.", "source": "forum", "score": 0.5}
"""  # noqa: E501
MT_BENCH = """\
{"question_id": 81, "category": "writing", "turns": ["Compose a travel blog post.", "Rewrite it."]}
{"question_id": 111, "category": "math", "turns": ["What is 12 + 9?", "Now add 5."], "reference": ["21", "26"]}
"""  # noqa: E501


def landed(folder: Path, text: str) -> tuple[list[Request], list[Any]]:
    """Submit a file; return the requests that its lines became, and what travels along."""
    path, db = folder / "in.jsonl", folder / "mh-batch.db"
    path.write_text(text)
    batch = submit(db, path)
    assert batch.jobs == len(text.splitlines())
    reader = open_reader(db)
    requests = [line.request for line in landed_lines(reader, batch.batch_id)]
    metadata = [json.loads(row["metadata"] or "null") for row in reader["jobs"].rows]
    reader.close()
    return requests, metadata


def test_a_batch_file_for_openai(tmp_path: Path) -> None:
    (first, second), metadata = landed(tmp_path, OPENAI)
    assert first.messages == (
        Message("system", "You are a helpful assistant."),
        Message("user", "Hello world!"),
    )
    assert second.settings == {"max_tokens": 1000}
    assert metadata == [None, None]
    reader = open_reader(tmp_path / "mh-batch.db")
    assert [(row["custom_id"], row["model"]) for row in reader["jobs"].rows] == [
        ("request-1", "gpt-3.5-turbo-0125"),
        ("request-2", "gpt-3.5-turbo-0125"),
    ]
    reader.close()


def test_a_data_set_of_sharegpt(tmp_path: Path) -> None:
    (first, second), metadata = landed(tmp_path, SHAREGPT)
    assert [m.role for m in first.messages] == ["user", "assistant", "user"]
    assert second.messages == (Message("system", "Be brief."), Message("user", "Who are you?"))
    assert metadata == [
        {"id": "QWJhYvA_0", "model_name": "gpt-4", "lang": "en"},
        {"id": "i6IyJda_0"},
    ]


def test_a_data_set_of_alpaca(tmp_path: Path) -> None:
    (first, second), metadata = landed(tmp_path, ALPACA)
    assert first.messages == (Message("user", "Give three tips for staying healthy."),)
    assert second.messages == (Message("user", "Translate to English.\n\nGuten Tag"),)
    assert metadata == [
        {"output": "1. Eat well.", "text": "Below is an instruction."},
        {"output": "Good day"},
    ]


def test_a_list_of_prompts(tmp_path: Path) -> None:
    (first, _), metadata = landed(tmp_path, PROMPTS)
    assert first.messages == (Message("user", "What is the capital of France?"),)
    assert metadata == [
        {"completion": " Paris", "prompt_id": "f0e37e9f7800261167ce91143f98f511"},
        {"source": "forum", "score": 0.5},
    ]


def test_the_questions_of_mt_bench(tmp_path: Path) -> None:
    (first, _), metadata = landed(tmp_path, MT_BENCH)
    assert first.turns == ("Compose a travel blog post.", "Rewrite it.")
    assert metadata == [
        {"question_id": 81, "category": "writing"},
        {"question_id": 111, "category": "math", "reference": ["21", "26"]},
    ]


@pytest.mark.parametrize("text", ['[\n{"prompt": "Hi"}\n]\n', '[{"prompt": "Hi"}]\n'])
def test_a_json_array_is_refused_with_what_is_needed(tmp_path: Path, text: str) -> None:
    (tmp_path / "in.jsonl").write_text(text)
    (line,) = mh_batch(tmp_path, "submit", "in.jsonl", code=2).stderr.splitlines()
    assert "one object a line is needed" in line


def test_a_model_that_is_not_here_is_told_at_once_and_may_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(OPENAI)
    said = mh_batch(tmp_path, "submit", "in.jsonl", "--model", "demo").stderr
    assert "gpt-3.5-turbo-0125" in said
    assert "--again --override-model" in said
    override = ("--again", "--override-model", "--model", "demo")
    said = mh_batch(tmp_path, "submit", "in.jsonl", *override).stderr
    assert said == "batch 2 (in): 2 jobs queued\n"
    sql = "select batch_id, model, count(*) from jobs group by 1, 2"
    found = rows(tmp_path, sql)
    assert found == [(1, "gpt-3.5-turbo-0125", 2), (2, None, 2)]
    mh_batch(tmp_path, "submit", "in.jsonl", "--again", "--override-model", code=2)
