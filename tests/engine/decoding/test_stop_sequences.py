"""What counts as the answer while it is being written, and how a parse is cut."""

from collections.abc import Callable

import pytest

from helpers.spelled import encode
from mh_batch.engine.chat_template.adapter import NativeAdapter
from mh_batch.engine.decoding.stop_sequences import StopSequenceFinder, cut_answer
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.jobs.generation import StopReason

THOUGHT = "<|channel|>analysis<|message|>One. STOP Two.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"{THOUGHT}{FINAL}Three", "Three"),
        (f"{FINAL}", ""),
        (f"{FINAL}Ende ☕", "Ende ☕"),
        ("no structure at all", "no structure at all"),
        (f"{THOUGHT}", None),
        (f"{THOUGHT}<|channel|>final", None),
        ("<|channel|>analysis<|message|>One. STOP", None),
        ('<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a', None),
        ("<|channel|>final to=functions.f<|message|>x", None),
        (f"{FINAL}Three<|return|>", None),
    ],
)
def test_only_an_open_final_message_is_a_harmony_answer(text: str, answer: str | None) -> None:
    assert HarmonyAdapter().answer(encode(text)) == answer


def test_a_stop_text_in_the_reasoning_ends_nothing() -> None:
    adapter = HarmonyAdapter()
    texts = StopSequenceFinder(("STOP",), adapter.decode, adapter.answer)
    tokens = encode(f"{THOUGHT}{FINAL}Three. STOP Four. Five. Six.")
    found = next(
        (count for end in range(1, len(tokens)) if (count := texts.find(tokens[:end]))), None
    )
    assert found is not None
    parse = cut_answer(adapter.parse(tokens[:found], StopReason.STOP_SEQUENCE), ("STOP",))
    assert (parse.text("analysis"), parse.text("final")) == ("One. STOP Two.", "Three. ")
    assert parse.well_formed


def test_a_completion_said_to_stop_at_a_text_outside_of_an_answer_is_cut_off() -> None:
    parse = HarmonyAdapter().parse(encode(THOUGHT), StopReason.STOP_SEQUENCE)
    assert "truncated" in parse.problems


def test_an_answer_that_begins_with_a_stop_text_is_empty_and_says_so() -> None:
    parse = HarmonyAdapter().parse(encode(f"{FINAL} #Three"), StopReason.STOP_SEQUENCE)
    cut = cut_answer(parse, ("Three", "#"))
    assert cut.text("final") == " "
    assert (cut.well_formed, cut.problems) == (False, ("empty_final",))


@pytest.mark.parametrize(
    ("template", "text", "answer"),
    [
        ("ChatML", "hello", "hello"),
        ("ChatML", "<think>hm", None),
        ("ChatML", "<think>hm</think>\n\nhello", "hello"),
        ("Qwen, opens thinking", "hm", None),
        ("Qwen, opens thinking", "hm</think>hello", "hello"),
    ],
)
def test_the_answer_of_other_models_is_what_follows_the_reasoning(
    native: Callable[[str, str], NativeAdapter], template: str, text: str, answer: str | None
) -> None:
    adapter = native("byte level", template)
    tokens = adapter._tokenizer.encode(text, add_special_tokens=False)
    assert adapter.answer(tokens) == answer
