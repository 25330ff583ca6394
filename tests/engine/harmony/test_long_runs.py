"""Long runs are cut where it makes no difference to the ids."""

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from openai_harmony import HarmonyError

from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.engine.harmony.long_runs import Limits, LongRunSplitter
from mh_batch.engine.harmony.vocabulary import harmony_encoding
from mh_batch.jobs.conversation import FunctionSpec, Message, Tool
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import Prompt

ADAPTER = HarmonyAdapter()


def encode(text: str) -> list[int]:
    return list(harmony_encoding().encode(text, disallowed_special=()))


def decode(tokens: Sequence[int]) -> str | None:
    try:
        return str(harmony_encoding().decode_utf8(tokens))
    except HarmonyError:
        return None


def render(*messages: Message, tools: tuple[Tool, ...] = ()) -> list[int]:
    return ADAPTER.render(Prompt(messages=messages, date="2025-06-30", tools=tools))


SHORT = LongRunSplitter(encode, decode, Limits(long=400, window=40))
ALPHABETS = [
    *("a", "ab", "abcdefghijklmnopqrstuvwxyz", "ACGT", "acgt", "A", "aB", "é", "что", "日本語の"),
    *("ก็า", "\u0301a", "中A", "=", "-=", "!?.", "😀👍", "/", " ", " \t", "\n", "\r\n "),
]
RUNS = st.sampled_from(ALPHABETS).flatmap(
    lambda alphabet: st.one_of(
        st.tuples(st.text(alphabet, min_size=1, max_size=9), st.integers(60, 900)).map(
            lambda t: (t[0] * t[1])[: t[1]]
        ),
        st.lists(st.sampled_from(alphabet), min_size=400, max_size=900).map("".join),
    )
)
BETWEEN = st.text(max_size=5) | st.sampled_from(
    ["", " ", " The ", "'s", "Don't", "<|end|>", "1", "\n"]
)
TEXTS = st.lists(st.tuples(BETWEEN, RUNS), min_size=1, max_size=3).map(
    lambda pairs: "".join(a + b for a, b in pairs)
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(TEXTS.filter(lambda text: decode(encode(text)) == text), BETWEEN)
def test_the_ids_of_the_parts_are_those_of_the_whole(text: str, end: str) -> None:
    text += end.encode(errors="ignore").decode()
    parts = SHORT.parts(text)
    assert "".join(parts) == text
    assert [token for part in parts for token in encode(part)] == encode(text)


@pytest.mark.parametrize("run", ["a" * 3000, "ACGTTGCA" * 500, "é" * 3000])
def test_a_long_run_is_really_cut(run: str) -> None:
    parts = SHORT.parts(f"The text: {run}, and what follows.")
    assert len(parts) > 3
    assert max(map(len, parts)) < 1500


def test_what_is_not_long_is_one_part() -> None:
    text = "A sentence of many words. " * 1000
    assert SHORT.parts(text) == [text]


@pytest.mark.parametrize("text", ["a" * 5000, "x " * 100 + "acgt" * 1500 + "\n\nEnd's."])
def test_a_prompt_has_the_ids_of_one_piece(text: str) -> None:
    for message in (
        Message("user", text),
        Message("assistant", text),
        Message("tool", text, name="f"),
    ):
        short = render(message, Message("user", "x"))
        whole = render(*(Message(message.role, "MARK", name=message.name), Message("user", "x")))
        mark = encode("MARK")
        at = next(i for i in range(len(whole)) if whole[i : i + len(mark)] == mark)
        assert short == whole[:at] + encode(text) + whole[at + len(mark) :]


def test_200_000_letters_are_a_prompt_like_any_other() -> None:
    begin = time.perf_counter()
    tokens = render(Message("user", "a" * 200_000))
    assert 25_000 < len(tokens) < 26_000
    # 18 s in one piece
    assert time.perf_counter() - begin < 9


@pytest.mark.parametrize(
    "message",
    [Message("user", "中A" * 100_000), Message("system", "a" * 1_000_000)],
    ids=["mixed", "instructions"],
)
def test_a_run_that_cannot_be_cut_is_refused_at_once(message: Message) -> None:
    begin = time.perf_counter()
    with pytest.raises(JobError, match="goes on for more than 50,000 bytes"):
        render(message, Message("user", "x"))
    assert time.perf_counter() - begin < 5


def test_a_tool_with_an_endless_word_is_refused() -> None:
    tool = Tool(FunctionSpec("f", "a" * 100_000, {"type": "object"}))
    with pytest.raises(JobError, match="goes on for"):
        render(Message("user", "x"), tools=(tool,))
