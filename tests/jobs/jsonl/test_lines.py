"""JSON lines become jobs, or refusals that name the line, the field and the reason."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.errors import BadLine, InputError
from mh_batch.jobs.jsonl.line_settings import Inherited
from mh_batch.jobs.jsonl.lines import LineReader, read_line
from mh_batch.jobs.record import JobLine
from mh_batch.jobs.settings import Context, Settings, apply

HI = [{"role": "user", "content": "Hi"}]
ASKED = json.dumps(HI[0]).encode()
TOOL = {"type": "function", "function": {"name": "get_weather"}}


def job(line: object) -> JobLine:
    read = read_line(7, json.dumps(line).encode())
    assert isinstance(read, JobLine), read
    return read


def refusal(line: object) -> str:
    raw = line if isinstance(line, bytes) else json.dumps(line).encode()
    read = read_line(7, raw)
    assert isinstance(read, BadLine), read
    assert read.number == 7
    return read.reason


def test_an_openai_batch_line_is_read_with_its_settings_and_its_other_keys() -> None:
    read = job(
        {
            "custom_id": "a-1",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "m",
                "messages": [{"role": "system", "content": "Be kind."}, *HI],
                "max_completion_tokens": 5,
                "temperature": None,
                "n": 1,
                "stream": False,
                "metadata": {"k": "v"},
            },
            "difficulty": 3,
        }
    )
    assert (read.custom_id, read.model) == ("a-1", "m")
    assert [m.role for m in read.request.messages] == ["system", "user"]
    assert read.request.settings == {"max_tokens": 5}
    assert read.metadata is not None
    assert json.loads(bytes(read.metadata)) == {"difficulty": 3, "metadata": {"k": "v"}}


def test_what_tools_answer_may_stand_beside_an_openai_body_and_is_text_or_its_json() -> None:
    body = {"messages": HI, "tools": [TOOL]}
    by_name = job({"body": body, "tool_results": {"get_weather": "rain"}}).request
    assert by_name.tool_results == {"get_weather": "rain"}
    in_order = job({"prompt": "x", "tools": [TOOL], "tool_results": [{"celsius": 3}, "rain"]})
    assert in_order.request.tool_results == ('{"celsius": 3}', "rain")
    assert job({"body": body}).request.tool_results is None


def test_a_line_asks_for_several_completions_with_n() -> None:
    assert job({"body": {"messages": HI, "n": 3}}).request.n == 3
    assert job({"prompt": "x", "n": None}).request.n == 1


def test_a_line_without_custom_id_is_named_by_its_number() -> None:
    assert job({"prompt": "Hi"}).custom_id == "line-7"


def test_an_mt_bench_line_plays_its_turns_and_keeps_its_keys() -> None:
    read = job({"question_id": 81, "category": "writing", "turns": ["a", "b"], "reference": ["x"]})
    assert (read.request.messages, read.request.turns) == ((), ("a", "b"))
    assert json.loads(bytes(read.metadata or b"")) == {
        "question_id": 81,
        "category": "writing",
        "reference": ["x"],
    }


def test_messages_may_be_followed_by_turns() -> None:
    answered = [*HI, {"role": "assistant", "content": "Hello"}]
    read = job({"messages": answered, "turns": ["more"]})
    assert len(read.request.messages) == 2
    assert read.request.turns == ("more",)


def test_a_sharegpt_line_is_answered_anew_at_its_last_question() -> None:
    entries = [
        {"from": "human", "value": "a"},
        {"from": "gpt", "value": "b"},
        {"from": "human", "value": "c"},
        {"from": "gpt", "value": "d"},
    ]
    read = job({"id": "x", "system": "S", "conversations": entries})
    assert [(m.role, m.content) for m in read.request.messages] == [
        ("system", "S"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
    ]


def test_an_alpaca_line_asks_its_instruction_with_its_input_and_keeps_the_old_answer() -> None:
    read = job(
        {"instruction": "Translate.", "input": "Hallo", "output": "Hello", "system": "Brief."}
    )
    assert read.request.messages == (
        Message("system", "Brief."),
        Message("user", "Translate.\n\nHallo"),
    )
    assert read.metadata is not None
    assert json.loads(bytes(read.metadata)) == {"output": "Hello"}
    for line in ({"instruction": "Hi", "input": ""}, {"instruction": "Hi", "input": None}):
        assert job(line).request.messages == (Message("user", "Hi"),)


def test_the_history_of_an_alpaca_line_comes_before_its_instruction() -> None:
    read = job({"instruction": "And 2 + 2?", "history": [["1 + 1?", "2"]]})
    assert [m.role for m in read.request.messages] == ["user", "assistant", "user"]
    assert [m.content for m in read.request.messages] == ["1 + 1?", "2", "And 2 + 2?"]
    assert "history" in refusal({"instruction": "x", "history": [["only a question"]]})


def test_an_instruction_beside_another_shape_is_a_key_of_the_users_own() -> None:
    read = job({"messages": HI, "instruction": "Hi", "input": "", "history": [1]})
    assert read.request.messages == (Message("user", "Hi"),)
    assert read.metadata is not None
    assert json.loads(bytes(read.metadata)) == {"instruction": "Hi", "input": "", "history": [1]}


def test_text_parts_are_joined_and_reasoning_is_kept_as_thinking() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    read = job(
        {
            "messages": [
                {"role": "user", "content": parts},
                {"role": "assistant", "content": "c", "reasoning_content": "why"},
                {"role": "user", "content": "d"},
            ]
        }
    )
    assert read.request.messages[0].content == "ab"
    assert read.request.messages[1] == Message("assistant", "c", thinking="why")


def test_a_tool_message_gets_the_name_of_the_call_it_answers() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    read = job(
        {
            "messages": [
                *HI,
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
            ]
        }
    )
    assert read.request.messages[-1].name == "f"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON: "),
        (b"[1]", "not a JSON object: "),
        (b'"text"', "not a JSON object: "),
        (b'{"prompt": "a\xff"}', "not UTF-8: byte 0xff at column 14"),
        (b'{"prompt": ' + b"[" * 100_000, "prompt: nested more than 128 deep"),
        (b'{"prompt": "x", "m": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "m: nested more than"),
        (b'{"body": {"messages": [], "m": ' + b'{"a":' * 200, "body.m: nested more than 128 deep"),
        (b'{"prompt": "a", "prompt": "b"}', "prompt: the key is there twice"),
        (b'{"custom_id": "a", "prompt": "b", "custom_id": "c"}', "custom_id: the key is there"),
        (b'{"prompt": "a", "mine": 1, "mine": 2}', "mine: the key is there twice"),
        (b'{"body": {"messages": [], "messages": []}}', "body.messages: the key is there twice"),
        (b'{"body": {"messages": [], "my": 1, "my": 1}}', "body.my: the key is there twice"),
        (
            b'{"messages": [{"role": "user", "content": "a", "content": "b"}]}',
            "messages[0].content: the key is there twice",
        ),
        (
            b'{"prompt": "x", "tools": [{"type": "function", "function": {"name": "f", '
            b'"parameters": {"maximum": 100000000000000000000}}}]}',
            "tools[0].function.parameters.maximum: a number beyond 64 bits",
        ),
        (
            b'{"prompt": "x", "tool_results": {"f": -9223372036854775809}}',
            "tool_results.f: a number",
        ),
        (b'{"prompt": "x", "seed": 18446744073709551616}', "seed: a number beyond 64 bits"),
        (b'{"prompt": "x", "my": [1, {"n": ' + b"9" * 10_000 + b"}]}", "my[1].n: a number beyond"),
        (b'{"body": {"messages": [], "my": 1e999}}', "body.my: a number beyond 64 bits"),
        (b'{"prompt": "x", "temperature": 1e-999}', "temperature: a number beyond 64 bits"),
        (b'{"prompt": "x", "my": [-0.' + b"0" * 400 + b"1]}", "my[0]: a number beyond 64 bits"),
        (b'{"prompt": "\\ud800"}', "prompt: half of a character"),
        (b'{"messages": [{"role": "user", "content": "\\udfff"}]}', "messages[0].content: half"),
        (b'{"prompt": "x", "m": {"k": ["\\ud83d"]}}', "m.k[0]: half of a character"),
        (b'{"prompt": "x", "m": {"\\ud83d": 1}}', "m: a key with half of a character"),
        (b'{"prompt": "x", "m": "\t"}', "not JSON: Invalid control character at"),
        (b'{"prompt": "x", "max_tokens": 9223372036854775808}', "max_tokens: "),
        (b'{"prompt": "x", "seed": 18446744073709551616}', "seed: "),
        (b'{"prompt": "x", "temperature": 1e400}', "temperature: "),
        (b'{"prompt": "x", "logit_bias": {"1": 1e400}}', "logit_bias"),
        (b'{"prompt": "x", "model": "a\\u0000b"}', "model: no name"),
        ({"x": 1}, "no known shape"),
        ({"prompts": "x"}, "prompts: did you mean prompt?"),
        ({"prompt": "x", "messages": HI}, "messages and prompt: which one"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role: "),
        ({"messages": [{"role": "user"}]}, "messages[0].content: missing"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content: empty"),
        ({"messages": []}, "messages: empty"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "there is nothing to answer"),
        ({"messages": [*HI, {"role": "system", "content": "x"}]}, "messages[1].role: system must"),
        ({"messages": [{"role": "user", "content": "x", "mood": 1}]}, "messages[0]: "),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type: ",
        ),
        ({"messages": [*HI, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id: "),
        ({"turns": []}, "nothing to answer"),
        ({"turns": ["a", ""]}, "turns[1]: empty"),
        ({"turns": ["a", 1]}, "turns[1]: "),
        ({"prompt": 5}, "prompt: "),
        ({"prompt": "x", "temperature": -1}, "temperature: "),
        ({"prompt": "x", "temprature": 1}, "temprature: unknown; did you mean temperature?"),
        ({"prompt": "x", "maxTokens": 1}, "maxTokens: unknown; did you mean max_tokens?"),
        (
            {"prompt": "x", "max_tokens": 1, "max_completion_tokens": 2},
            "differs from max_completion_tokens",
        ),
        ({"prompt": "x", "n": 0}, "n: Expected `int` >= 1"),
        ({"prompt": "x", "tool_results": {"f": "1"}}, "tool_results: there are no tools"),
        (
            {"prompt": "x", "tools": [TOOL], "tool_results": {"get_wether": "1"}},
            "tool_results.get_wether: no such tool; did you mean get_weather?",
        ),
        ({"prompt": "x", "stop": [""]}, "stop: "),
        ({"prompt": "x", "logprobs": True}, "logprobs: not supported"),
        ({"prompt": "x", "kv_bits": 4}, "kv_bits: not supported: mlx-lm cannot quantise"),
        ({"prompt": "x", "parallel": 8}, "parallel: the worker's, not a line's: `work --parallel`"),
        ({"body": {"messages": HI, "parallel": 8}}, "body.parallel: the worker's, not a line's"),
        ({"body": {"messages": HI}, "parallel": 8}, "parallel: the worker's, not a line's"),
        ({"prompt": "x", "max_kv_size": 64, "kv_keep": 64}, "kv_keep: must be below max_kv_size"),
        ({"prompt": "x", "custom_id": 5}, "custom_id: "),
        ({"prompt": "x", "custom_id": ""}, "custom_id: must have 1 to 512"),
        ({"prompt": "x", "custom_id": "a\nb"}, "custom_id: holds a control character"),
        ({"prompt": "x", "model": ""}, "model: empty"),
        ({"prompt": "x", "tools": [{"type": "function"}]}, "tools[0]: "),
        (
            {"prompt": "x", "tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools[0].function.name: 'a b' is not",
        ),
        ({"body": {"messages": [{"role": "x"}]}}, "body.messages[0].role: "),
        ({"body": {}}, "body.messages: missing"),
        ({"body": {"messages": HI}, "temperature": 1}, "temperature: belongs into body"),
        ({"body": {"messages": HI}, "url": "/v1/embeddings"}, "url: only /v1/chat/completions"),
        ({"body": {"messages": HI}, "method": "GET"}, "method: only POST"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, "conversations[0].from: unknown"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_line_that_cannot_become_a_job_is_refused_with_field_and_reason(
    line: object, reason: str
) -> None:
    assert reason in refusal(line)


@pytest.mark.parametrize("key", ["prompt_id", "conversation_id", "mode", "id", "source", "label"])
def test_a_key_of_the_users_own_is_no_near_miss(key: str) -> None:
    assert json.loads(bytes(job({"prompt": "x", key: 1}).metadata or b"")) == {key: 1}


def test_metadata_keeps_numbers_as_they_were_written() -> None:
    read = read_line(1, b'{"prompt": "x", "big": 18446744073709551615, "f": 1.10}')
    assert isinstance(read, JobLine)
    expected = b'{"big":18446744073709551615,"f":1.10}'
    assert sorted(bytes(read.metadata or b"")) == sorted(expected)


@pytest.mark.parametrize(
    ("line", "metadata"),
    [
        (
            b'{"zeta": 1, "prompt": "x", "alpha": 2, "mid": 3, "beta": 4}',
            b'{"zeta":1,"alpha":2,"mid":3,"beta":4}',
        ),
        (
            b'{"z": 1, "body": {"user": 2, "messages": [%s], "store": 3}, "a": 4, "y": 5}' % ASKED,
            b'{"z":1,"user":2,"store":3,"a":4,"y":5}',
        ),
    ],
)
def test_metadata_keeps_the_order_of_the_line(line: bytes, metadata: bytes) -> None:
    read = read_line(1, line)
    assert isinstance(read, JobLine)
    assert bytes(read.metadata or b"") == metadata


READ = """
import sys
import tracemalloc
from collections.abc import Callable
from mh_batch.jobs.jsonl.lines import read_line
for line in sys.stdin.buffer:
    read = read_line(1, line)
    print(getattr(read, "metadata", None) and bytes(read.metadata), getattr(read, "reason", None))
"""
MANY_FAULTS = b"""
{"zeta": 1, "prompt": "x", "alpha": 2, "mid": 3, "beta": 4}
{"prompt": "x", "temprature": 1, "max_tokns": 1, "custmid": 2}
{"prompt": "x", "audio": 1, "prediction": 2, "stream": true}
{"prompt": "x", "tool_results": {"a": 1, "b": 2, "c": 3}, "tools": [{"function": {"name": "f"}}]}
{"body": {"messages": [{"role": "user", "content": "x"}]}, "temperature": 1, "n": 1, "tools": []}
"""


def test_lines_read_the_same_whatever_the_hash_seed_of_the_process() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-P", "-c", READ],
            input=MANY_FAULTS.strip() + b"\n",
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            timeout=60,
            check=True,
        ).stdout
        for seed in range(6)
    }
    assert len(printed) == 1


@given(st.binary(max_size=200))
def test_any_bytes_are_a_job_or_a_refusal_never_an_exception(line: bytes) -> None:
    assert isinstance(read_line(1, line), JobLine | BadLine)


def test_a_key_twice_inside_of_metadata_is_data() -> None:
    read = read_line(1, b'{"prompt": "x", "m": {"a": 1, "a": 2}}')
    assert isinstance(read, JobLine)
    assert bytes(read.metadata or b"") == b'{"m":{"a": 1, "a": 2}}'


@pytest.mark.parametrize(
    "custom_id",
    ["../../etc/x", "<|im_end|>", "a b", "-", "$(x)", "\u202eabc", "'; drop table jobs"],
)
def test_a_custom_id_is_mere_data(custom_id: str) -> None:
    assert job({"custom_id": custom_id, "prompt": "x"}).custom_id == custom_id


def test_large_lines_are_read() -> None:
    long = "word " * 2_000_000
    assert job({"prompt": long}).request.messages[0].content == long
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant")] * 5_000
    assert len(job({"messages": [*turns, *HI]}).request.messages) == 10_001


def test_a_pair_of_surrogates_is_one_character() -> None:
    read = read_line(1, b'{"prompt": "\\ud83d\\ude00"}')
    assert isinstance(read, JobLine)
    assert read.request.messages[0].content == "\U0001f600"


@given(
    st.lists(st.sampled_from(["prompt", "my", "other"]), min_size=1, max_size=5),
    st.sampled_from(["{%s}", '{"body": {"messages": [], %s}}', ' {"x": "{}[]", %s}']),
    st.sampled_from([", ", ","]),
)
def test_any_key_twice_is_named(keys: list[str], form: str, comma: str) -> None:
    line = form % comma.join(f'"{key}": "a\\"b"' for key in keys)
    read = read_line(1, line.encode())
    twice = [key for n, key in enumerate(keys) if key in keys[:n]]
    named = isinstance(read, BadLine) and "the key is there twice" in read.reason
    assert named == bool(twice)
    if isinstance(read, BadLine) and twice:
        assert read.reason.split(":")[0].removeprefix("body.") == twice[0]


@given(st.integers(1, 200), st.booleans(), st.text(alphabet='[]{}"\\\\', max_size=20))
def test_nesting_is_measured_outside_of_texts_only(depth: int, bracket: bool, text: str) -> None:
    opening, closing = ("[", "]") if bracket else ('{"k":', "}")
    value = opening * depth + json.dumps(text) + closing * depth
    read = read_line(1, f'{{"t": {json.dumps(text * 50)}, "prompt": "x", "m": {value}}}'.encode())
    assert isinstance(read, JobLine) == (depth < 128)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
known_keys = st.sampled_from(
    ["messages", "turns", "prompt", "body", "conversations", "tools", "custom_id", "max_tokens"]
)


@given(st.dictionaries(known_keys | st.text(max_size=8), json_values, max_size=5))
def test_any_object_is_a_job_or_a_refusal_never_an_exception(line: dict[str, object]) -> None:
    assert isinstance(read_line(1, json.dumps(line).encode()), JobLine | BadLine)


@given(st.text(min_size=1).filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t)))
def test_a_users_text_arrives_unchanged(text: str) -> None:
    assert job({"prompt": text}).request.messages[0].content == text


def reader(content: bytes) -> LineReader:
    return LineReader(io.BytesIO(content), "in.jsonl")


def test_blank_lines_and_a_byte_order_mark_are_passed_over_and_numbers_kept() -> None:
    content = b'\xef\xbb\xbf{"prompt": "a"}\r\n\n  \n{"prompt": "b"}'
    lines = reader(content)
    assert [line.number for line in lines] == [1, 4]
    assert lines.lines == 2
    assert lines.sha256 == hashlib.sha256(content).hexdigest()
    assert lines.bytes_read == len(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "in.jsonl: empty"),
        (b"\n\n", "in.jsonl: empty"),
        (b"\x7fELF\0\0\n", "in.jsonl: a binary file"),
        (b"PK\x03\x04zip", "in.jsonl: a binary file"),
        (b"\x89PNG\r\n", "in.jsonl: not text"),
        (b'[\n{"prompt": "a"}\n]', "in.jsonl: a JSON array"),
    ],
)
def test_a_file_that_holds_no_lines_of_jobs_is_refused_as_a_whole(
    content: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        list(reader(content))


def test_a_request_survives_its_way_through_the_database() -> None:
    request = job({"messages": HI, "turns": ["x"], "max_tokens": 3}).request
    assert msgspec.json.decode(msgspec.json.encode(request), type=type(request)) == request


def test_a_line_that_was_cut_off_in_a_long_text_is_refused_at_once() -> None:
    code = '{\\"a\\": [1]} ' * 60_000
    cut = ('{"prompt": "' + "[" * 200 + code).encode()
    assert "not JSON" in refusal(cut)


@pytest.mark.parametrize(
    ("batch", "line", "reason"),
    [
        ({"kv_keep": 64}, {"prompt": "x", "max_kv_size": 64}, "max_kv_size: must be above"),
        ({"max_kv_size": 32}, {"prompt": "x", "kv_keep": 32}, "kv_keep: must be below"),
        (
            {"kv_keep": 64},
            {"body": {"messages": HI, "max_kv_size": 64}},
            "body.max_kv_size: must be above kv_keep (64), got 64",
        ),
    ],
)
def test_settings_of_a_line_that_clash_with_those_of_its_batch_are_refused(
    batch: dict[str, Any], line: dict[str, Any], reason: str
) -> None:
    raw = json.dumps(line).encode()
    read = read_line(3, raw, Inherited(apply(Settings(), batch)))
    assert isinstance(read, BadLine)
    assert read.reason.startswith(reason)
    assert isinstance(read_line(3, raw), JobLine)


def test_null_takes_a_limit_of_the_batch_away_and_is_unset_where_it_is_no_value() -> None:
    line = {"prompt": "x", "max_kv_size": None, "history_tokens": None, "temperature": None}
    inherited = Inherited(apply(Settings(), {"max_kv_size": 64, "kv_keep": 32}))
    read = read_line(1, json.dumps(line).encode(), inherited)
    assert isinstance(read, JobLine)
    assert read.request.settings == {"max_kv_size": None, "history_tokens": None}
    stored = msgspec.json.decode(msgspec.json.encode(read.request), type=Request)
    batch = apply(Settings(), {"max_kv_size": 64, "history_tokens": 5, "max_context_tokens": 99})
    assert apply(batch, stored.settings).context == Context(max_context_tokens=99)


def peak_mb(lines: Callable[[int], dict[str, object]], count: int) -> float:
    """The most memory, in MB, that reading so many lines takes beside the lines themselves."""
    encoded = [json.dumps(lines(n)).encode() for n in range(count)]
    tracemalloc.start()
    try:
        for number, line in enumerate(encoded, start=1):
            assert isinstance(read_line(number, line), JobLine)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_memory_stays_flat_over_lines_with_large_settings_and_long_keys() -> None:
    def biased(n: int) -> dict[str, object]:
        return {"prompt": "x", "logit_bias": {str(token + n): 1.0 for token in range(5000)}}

    def keyed(n: int) -> dict[str, object]:
        return {"prompt": "x", f"{n}" + "k" * 100_000: 1}

    assert peak_mb(biased, 20) < 4
    assert peak_mb(keyed, 40) < 3
