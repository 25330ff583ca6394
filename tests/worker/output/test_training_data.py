"""A night of the demo model as a data set, read by mlx-lm's own loader."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlx_lm.tuner.datasets import (
    ChatDataset,
    CompletionsDataset,
    load_custom_hf_dataset,
    load_local_dataset,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from helpers.command_line import mh_batch

PARTS = ("train", "valid", "test")
SPLIT = "train=0.4,valid=0.3,test=0.3"

# reasoning of the last message only and arguments encoded by the template, as gpt-oss's does
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.thinking and loop.last and not add_generation_prompt %}({{ m.thinking }}){% endif %}"
    "{% for c in m.tool_calls or [] %}"
    "{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
    "{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WEATHER = {
    "custom_id": "weather",
    "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather in a city.",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            },
        }
    ],
    "tool_results": {"get_weather": "rain"},
    "n": 2,
}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which sums of two turns and a tool call were run."""
    folder = tmp_path_factory.mktemp("night")
    sums = [
        {
            "custom_id": f"sum-{n}",
            "turns": [f"What is {n} + 4?", "Thanks"],
            "system": "Sum.",
            "odd": n % 2,
        }
        for n in range(1, 7)
    ]
    lines = "".join(json.dumps(line) + "\n" for line in [*sums, WEATHER])
    (folder / "convos.jsonl").write_text(lines)
    mh_batch(folder, "run", "convos.jsonl", "-o", "out.jsonl", "--model", "demo")
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A tokeniser of bytes with a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, chat_template=TEMPLATE, clean_up_tokenization_spaces=False
    )


def load(folder: Path, tokenizer: Any) -> list[Any]:
    """Read the parts as `mlx_lm.lora --mask-prompt` does."""
    return list(load_local_dataset(folder, tokenizer, SimpleNamespace(mask_prompt=True)))


def targets(parts: list[Any], tokenizer: Any) -> list[tuple[str, str]]:
    """What there is to learn: each row's job and its text after the masked prompt."""
    found = []
    for part in parts:
        for index in range(len(part)):
            tokens, offset = part.process(part[index])
            assert 0 < offset < len(tokens)
            found.append((part[index]["custom_id"], tokenizer.decode(tokens[offset:])))
    return found


def test_messages_in_three_files_are_read_by_mlx_lm(night: Path, tokenizer: Any) -> None:
    arguments = ("results", "--format", "messages", "--split", SPLIT, "--seed", "1", "-o")
    told = mh_batch(night, *arguments, "chat").stderr
    assert [line.rpartition("/")[2] for line in told.splitlines()] == [f"{p}.jsonl" for p in PARTS]
    parts = load(night / "chat", tokenizer)
    assert all(isinstance(part, ChatDataset) and len(part) for part in parts)
    named = [{part[i]["custom_id"] for i in range(len(part))} for part in parts]
    assert sum(map(len, named)) == len(set.union(*named)) == 7
    learned = targets(parts, tokenizer)
    # two turns of six sums; a call and its answer, twice
    assert len(learned) == 12 + 4
    assert ("sum-3", "(3 + 4. Units 3 + 4 = 7. Tens 0 + 0 + 0 = 0. So 7.)3 + 4 = 7") in learned
    calls = [text for name, text in learned if name == "weather" and "get_weather{" in text]
    assert calls == ['(I call get_weather.)get_weather{"city": "Paris"}'] * 2


def test_completions_in_three_files_are_read_by_mlx_lm(night: Path, tokenizer: Any) -> None:
    arguments = ("results", "--format", "completion", "--split", SPLIT, "--seed", "1", "-o")
    told = mh_batch(night, *arguments, "pairs").stderr
    assert "10 answers left out, 1 job as a whole: a pair holds one question" in told
    parts = load(night / "pairs", tokenizer)
    assert all(isinstance(part, CompletionsDataset) for part in parts if len(part))
    assert ("sum-3", "3 + 4 = 7") in targets(parts, tokenizer)


def test_a_parquet_file_is_read_by_mlx_lm_through_datasets(night: Path, tokenizer: Any) -> None:
    mh_batch(night, "results", "--status", "done", "-o", "all.parquet")
    source = {
        "path": "parquet",
        "train_split": "train",
        "valid_split": "train[:1]",
        "config": {"data_files": str(night / "all.parquet"), "cache_dir": str(night / "cache")},
    }
    arguments = SimpleNamespace(hf_dataset=source, mask_prompt=True, train=True, test=False)
    train, _, _ = load_custom_hf_dataset(arguments, tokenizer)
    assert isinstance(train, ChatDataset)
    learned = targets([train], tokenizer)
    # the last answer of each of six sums, and two about the weather
    lines = [json.loads(line) for line in (night / "out.jsonl").read_text().splitlines()]
    answers = [
        (line["custom_id"], choice["message"])
        for line in lines
        for choice in line["response"]["body"]["choices"]
    ]
    assert len(answers) == 6 + 2
    assert sorted(learned) == sorted(
        (name, f"({said['reasoning_content']}){said['content']}") for name, said in answers
    )


def test_the_part_of_a_job_does_not_depend_on_what_else_is_exported(night: Path) -> None:
    arguments = ("results", "--format", "sharegpt", "--split", SPLIT, "--seed", "1", "-o")
    mh_batch(night, *arguments, "all")
    mh_batch(night, *arguments, "some", "--where", "odd=1")
    found = []
    for path in (night / "some").iterdir():
        rows = path.read_text().splitlines()
        assert set(rows) <= set((night / "all" / path.name).read_text().splitlines())
        found += [json.loads(row)["custom_id"] for row in rows]
    assert sorted(found) == ["sum-1", "sum-3", "sum-5"]


def test_a_part_without_a_conversation_does_not_stop_mlx_lm(night: Path, tokenizer: Any) -> None:
    split = "train=0.9998,valid=0.0001,test=0.0001"
    arguments = ("results", "--format", "messages", "--split", split, "-o", "whole")
    told = mh_batch(night, *arguments).stderr
    assert "whole/test.jsonl: no conversation fell into this part" in told
    train, valid, test = load(night / "whole", tokenizer)
    assert (len(train), valid, test) == (16, [], [])
