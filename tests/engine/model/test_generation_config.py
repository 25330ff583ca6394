"""The sampling defaults that a model's folder brings along."""

import json
from pathlib import Path

import pytest

from mh_batch.engine.demo import DEMO_MODEL
from mh_batch.engine.model.generation_config import FILE, sampling_defaults


def read(folder: Path, content: object) -> tuple[dict[str, int | float], tuple[str, ...]]:
    (folder / FILE).write_text(content if isinstance(content, str) else json.dumps(content))
    return sampling_defaults(folder)


@pytest.mark.parametrize(
    ("content", "values"),
    [
        # Qwen3's
        (
            {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": 1},
            {"temperature": 0.6, "top_p": 0.95, "top_k": 20},
        ),
        # gpt-oss's says nothing about how to draw
        ({"bos_token_id": 199998, "do_sample": True, "eos_token_id": [200002]}, {}),
        ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, {"temperature": 0.0}),
        (
            {"do_sample": False, "repetition_penalty": 1.05},
            {"temperature": 0.0, "repetition_penalty": 1.05},
        ),
        ({"min_p": 0.05, "top_k": -1, "top_p": None}, {"min_p": 0.05, "top_k": 0}),
        ({"temperature": 1, "max_new_tokens": 9, "num_beams": 4}, {"temperature": 1.0}),
    ],
)
def test_what_the_file_says_of_sampling_is_read_by_our_names(
    tmp_path: Path, content: dict[str, object], values: dict[str, int | float]
) -> None:
    assert read(tmp_path, content) == (values, ())


def test_a_value_out_of_range_is_left_out_and_named(tmp_path: Path) -> None:
    values, not_used = read(tmp_path, {"temperature": 7.5, "top_p": "high", "top_k": 40})
    assert values == {"top_k": 40}
    assert [text.split(":")[0] for text in not_used] == ["temperature", "top_p"]
    assert "7.5" in not_used[0]


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000])
def test_a_file_that_cannot_be_read_is_named_and_gives_nothing(
    tmp_path: Path, content: str
) -> None:
    values, not_used = read(tmp_path, content)
    assert values == {}
    assert FILE in not_used[0]


def test_a_folder_without_the_file_such_as_the_demo_models_gives_nothing(tmp_path: Path) -> None:
    assert sampling_defaults(tmp_path) == ({}, ())
    assert sampling_defaults(DEMO_MODEL) == ({}, ())
