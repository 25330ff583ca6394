"""Tool calls of models that are not gpt-oss, in the notations that mlx-lm knows."""

import importlib
import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mh_batch.engine.chat_template.adapter import NativeAdapter
from mh_batch.engine.chat_template.tool_calls import Notation, call_messages, notation
from mh_batch.engine.completion_reader import Completion
from mh_batch.engine.completion_reader import read as read_completion
from mh_batch.engine.parsing.message import CALL as CALL_TOKEN
from mh_batch.engine.parsing.message import END, RETURN
from mh_batch.jobs.conversation import FunctionSpec, Tool
from mh_batch.jobs.generation import Channel, FinishReason, Parse, StopReason, finish_reason

Make = Callable[[str, str], NativeAdapter]
Read = Callable[[str], Parse]

QWEN, MISTRAL = "Qwen, calls only", "Mistral, calls"
ADD = Channel("commentary", '{"a": 7, "b": 2}', "functions.add", "json")
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 7, "b": 2}}\n</tool_call>'


def read(adapter: NativeAdapter, text: str, *, stopped: bool = True) -> Parse:
    (stop,) = adapter.stop_tokens
    tokens = adapter._tokenizer.encode(text, add_special_tokens=False)
    if not stopped:
        return adapter.parse(tokens, StopReason.MAX_TOKENS)
    return adapter.parse([*tokens, stop], StopReason.STOP_TOKEN)


def preamble(text: str) -> Channel:
    return Channel("commentary", text)


@pytest.mark.parametrize(
    ("family", "text", "channels"),
    [
        (QWEN, CALL, [ADD]),
        (QWEN, f"\n\n{CALL}\n", [ADD]),
        (QWEN, f"I add them up.\n{CALL}", [preamble("I add them up."), ADD]),
        (QWEN, f"{CALL}\n{CALL}", [ADD, ADD]),
        (QWEN, f"<think>\nSeven and two.\n</think>\n\n{CALL}",
         [Channel("analysis", "Seven and two."), ADD]),
        ("Qwen, opens thinking", f"Seven and two.\n</think>\n\n{CALL}",
         [Channel("analysis", "Seven and two."), ADD]),
        (QWEN, '<tool_call>{"name": "add", "arguments": "{\\"a\\": 7, \\"b\\": 2}"}</tool_call>',
         [ADD]),
        (QWEN, '<tool_call>{"name": "say", "arguments": {"é": "</x>"}}</tool_call>',
         [Channel("commentary", '{"é": "</x>"}', "functions.say", "json")]),
        (QWEN, '<tool_call>{"name": "say", "arguments": {"a": "\\ud83d"}}</tool_call>',
         [Channel("commentary", '{"a": "\ufffd"}', "functions.say", "json")]),
        (MISTRAL, '[TOOL_CALLS]add[ARGS]{"a": 7, "b": 2}', [ADD]),
        (MISTRAL, '[TOOL_CALLS]add[ARGS]{"a": 7, "b": 2}[TOOL_CALLS]add[ARGS]{"a": 7, "b": 2}',
         [ADD, ADD]),
        (MISTRAL, '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 7, "b": 2}}]', [ADD]),
        (MISTRAL, 'I add.[TOOL_CALLS]add[ARGS]{"a": 7, "b": 2}', [preamble("I add."), ADD]),
    ],
)  # fmt: skip
def test_calls_become_commentary_to_the_function(
    native: Make, family: str, text: str, channels: list[Channel]
) -> None:
    found = read(native("byte level", family), text)
    assert list(found.channels) == channels
    assert (found.problems, found.well_formed) == ((), True)
    assert finish_reason(StopReason.STOP_TOKEN, found) is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("text", "problems", "channel"),
    [
        ('<tool_call>{"name": "add", "arguments": {"a": 7</tool_call>', {"bad_arguments"},
         Channel("commentary", '{"name": "add", "arguments": {"a": 7', "functions.add")),
        ('<tool_call>{"name": "add", "arguments": [7, 2]}</tool_call>', {"bad_arguments"},
         Channel("commentary", '{"name": "add", "arguments": [7, 2]}', "functions.add")),
        ('<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>', {"bad_arguments"},
         Channel("commentary", '{"name": "add", "arguments": {"a": NaN}}', "functions.add")),
        ('<tool_call>{"name": "add"}</tool_call>', {"bad_arguments"},
         Channel("commentary", '{"name": "add"}', "functions.add")),
        ('<tool_call>{"name": "add up!", "arguments": {}}</tool_call>', {"bad_recipient"},
         Channel("commentary", "{}", "functions.add up!", "json")),
        # no end marker, and words behind a call, which should wait for its result
        (CALL.removesuffix("</tool_call>"), {"call_not_ended"}, ADD),
        (f"{CALL}\nIt is nine.", {"wrong_stop"}, preamble("It is nine.")),
    ],
)  # fmt: skip
def test_a_malformed_call_is_a_problem_and_keeps_its_text(
    native: Make, text: str, problems: set[str], channel: Channel
) -> None:
    found = read(native("byte level", QWEN), text)
    assert set(found.problems) == problems
    assert found.channels[-1] == channel
    assert finish_reason(StopReason.STOP_TOKEN, found) is FinishReason.STOP


@pytest.mark.parametrize(
    "text", ["<tool_call>", "<tool_call>no json", "<tool_call>[[[[</tool_call>"]
)
def test_what_names_no_function_keeps_its_text_without_a_recipient(native: Make, text: str) -> None:
    found = read(native("byte level", QWEN), text)
    inside = text.removeprefix("<tool_call>").removesuffix("</tool_call>")
    assert found.channels == (preamble(inside),)
    assert "bad_arguments" in found.problems


def test_a_call_that_was_cut_off_is_no_call(native: Make) -> None:
    found = read(native("byte level", QWEN), 'I add.\n<tool_call>{"name"', stopped=False)
    assert found.channels == (preamble("I add."), preamble('{"name"'))
    assert set(found.problems) == {"truncated", "no_final"}
    whole = read(native("byte level", QWEN), CALL, stopped=False)
    assert (whole.channels, whole.problems) == ((ADD,), ("truncated",))


def test_the_control_tokens_of_a_familys_calls_are_no_forgery_but_those_of_turns_are(
    native: Make,
) -> None:
    adapter = native("byte level", MISTRAL)
    forged = read(adapter, '[TOOL_CALLS]add[ARGS]{"a": "[INST]"}')
    assert "control_in_content" in forged.problems
    assert "control_in_content" in read(adapter, "nine [ARGS]").problems


def test_a_control_token_in_the_arguments_is_none_of_the_notation(native: Make) -> None:
    adapter = native("byte level", MISTRAL)
    forged = read(adapter, '[TOOL_CALLS]add[ARGS]{"a": "<|im_start|>"}')
    assert forged.problems == ("control_in_content",)
    (stop,) = adapter.stop_tokens
    parts = ('[TOOL_CALLS]add[ARGS]{"a": "<|im_', 'start|>"}')
    ids = [adapter._tokenizer.encode(part, add_special_tokens=False) for part in parts]
    spelled = adapter.parse([*ids[0], *ids[1], stop], StopReason.STOP_TOKEN)
    assert (spelled.well_formed, spelled.calls[0].text) == (True, '{"a": "<|im_start|>"}')


def tool(name: str, **types: str) -> Tool:
    properties = {argument: {"type": kind} for argument, kind in types.items()}
    return Tool(FunctionSpec(name, parameters={"type": "object", "properties": properties}))


FIND = tool("find", zip="string", most="integer", near="boolean", tags="array")
FOUND = {"zip": "01234", "most": 5, "near": True, "tags": ["a", "b"]}
"""A call of it: what stands unquoted in the text is typed by the schema alone."""

GLM = (
    "<tool_call>find<arg_key>zip</arg_key><arg_value>01234</arg_value><arg_key>most</arg_key>"
    "<arg_value>5</arg_value><arg_key>near</arg_key><arg_value>true</arg_value><arg_key>tags"
    '</arg_key><arg_value>["a", "b"]</arg_value></tool_call>'
)
QWEN_CODER = (
    "<tool_call>\n<function=find>\n<parameter=zip>\n01234\n</parameter>\n<parameter=most>\n5\n"
    "</parameter>\n<parameter=near>\ntrue\n</parameter>\n<parameter=tags>\n"
    '["a", "b"]\n</parameter>\n</function>\n</tool_call>'
)
OF_SCHEMAS = {
    "qwen3_coder": QWEN_CODER,
    "glm47": GLM,
    "laguna": GLM,
    "longcat": GLM.replace("tool_call", "longcat_tool_call").replace("arg_", "longcat_arg_"),
    "minimax_m2": '<minimax:tool_call>\n<invoke name="find">\n'
    '<parameter name="zip">01234</parameter>\n<parameter name="most">5</parameter>\n'
    '<parameter name="near">true</parameter>\n<parameter name="tags">["a", "b"]'
    "</parameter>\n</invoke>\n</minimax:tool_call>",
    "minicpm5": '<function name="find"><param name="zip">01234</param><param name="most">5</param>'
    '<param name="near">true</param><param name="tags">["a", "b"]</param></function>',
}
"""A call in each notation whose types only the function's schema knows."""


class Tokenizer:
    """What mlx-lm's tokeniser says of a model of that family."""

    has_tool_calling = True

    def __init__(self, parser: str) -> None:
        self.module = importlib.import_module(f"mlx_lm.tool_parsers.{parser}")
        self.tool_parser = self.module.parse_tool_call
        self.tool_call_start = self.module.tool_call_start
        self.tool_call_end = self.module.tool_call_end


def inside(tokenizer: Tokenizer, text: str) -> str:
    """What mlx-lm's server hands the parser: the text between the markers."""
    return text.removeprefix(tokenizer.tool_call_start).removesuffix(tokenizer.tool_call_end)


@pytest.mark.parametrize("parser", OF_SCHEMAS)
def test_arguments_get_the_types_that_mlx_lm_reads_from_the_schema(parser: str) -> None:
    tokenizer, text = Tokenizer(parser), OF_SCHEMAS[parser]
    how = notation(tokenizer)
    assert how is not None
    said, call = call_messages(f"I look. {text}", how, RETURN, (tool("other"), FIND))
    tools = [{"type": "function", "function": msgspec.to_builtins(FIND.function)}]
    expected = tokenizer.module.parse_tool_call(inside(tokenizer, text), tools)
    assert expected == {"name": "find", "arguments": FOUND}
    assert (said.text, call.recipient) == ("I look.", "functions.find")
    assert json.loads(call.text) == expected["arguments"]
    assert (call.closed_by, call.defects) == (CALL_TOKEN, ())


@pytest.mark.parametrize("parser", OF_SCHEMAS)
def test_a_call_of_a_function_that_was_not_declared_stays_text(parser: str) -> None:
    how, text = notation(Tokenizer(parser)), OF_SCHEMAS[parser]
    assert how is not None
    assert not how.can_read(())
    (answer,) = call_messages(f"I look. {text}", how, RETURN, (tool("other"),))
    assert (answer.channel, answer.recipient, answer.text) == ("final", None, f"I look. {text}")
    assert answer.defects == ("unknown_tool",)
    both = call_messages(f"{text}{text.replace('find', 'look')}", how, RETURN, (FIND,))
    assert [message.recipient for message in both] == ["functions.find", None]
    assert both[1].text == text.replace("find", "look")


def test_a_declared_call_is_read_and_without_tools_its_notation_is_a_text(native: Make) -> None:
    adapter = native("byte level", "Qwen Coder")
    (stop,) = adapter.stop_tokens
    tokens = adapter._tokenizer.encode(QWEN_CODER, add_special_tokens=False)
    completion = Completion((*tokens, stop), StopReason.STOP_TOKEN, tools=(FIND,))
    found = read_completion(adapter, completion)
    assert (found.well_formed, found.calls[0].recipient) == (True, "functions.find")
    assert json.loads(found.calls[0].text) == FOUND
    assert adapter.answer(tokens, (FIND,)) is None
    without = read_completion(adapter, msgspec.structs.replace(completion, tools=()))
    assert without.channels == (Channel("final", QWEN_CODER),)
    assert without.well_formed
    assert adapter.answer(tokens) == QWEN_CODER


def test_an_argument_that_its_type_cannot_be_is_a_problem_and_keeps_its_text(native: Make) -> None:
    adapter = native("byte level", "Qwen Coder")
    (stop,) = adapter.stop_tokens
    text = QWEN_CODER.replace("\n5\n", "\nfive\n")
    tokens = adapter._tokenizer.encode(text, add_special_tokens=False)
    found = adapter.parse([*tokens, stop], StopReason.STOP_TOKEN, (FIND,))
    assert "bad_arguments" in found.problems
    assert found.channels[-1].text == inside(Tokenizer("qwen3_coder"), text)


def test_a_family_that_knows_no_calls_writes_text(native: Make) -> None:
    assert read(native("byte level", "ChatML"), CALL).channels == (Channel("final", CALL),)


def test_a_call_is_no_answer_in_which_a_text_could_stop(native: Make) -> None:
    adapter = native("byte level", QWEN)
    encode = adapter._tokenizer.encode
    assert adapter.answer(encode("I add.")) == "I add."
    assert adapter.answer(encode(f"I add. {CALL}")) is None


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        ("json_tools", '<tool_call>{"name": "add", "arguments": {"a": 7, "b": 2}}</tool_call>'),
        ("mistral", '[TOOL_CALLS]add[ARGS]{"a": 7, "b": 2}'),
        ("pythonic", "<|tool_call_start|>[add(a=7, b=2)]<|tool_call_end|>"),
        ("gemma4", "<|tool_call>call:add{a:7,b:2}<tool_call|>"),
        ("function_gemma", "<start_function_call>call:add{a:7,b:2}<end_function_call>"),
        ("kimi_k2", "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0"
         '<|tool_call_argument_begin|>{"a": 7, "b": 2}<|tool_call_end|><|tool_calls_section_end|>'),
        ("kimi_k3", '<|open|>tools<|sep|><|open|>call tool="add" index="1"<|sep|>'
         '<|open|>json type="object"<|sep|>{"a": 7, "b": 2}<|close|>json<|sep|>'
         "<|close|>call<|sep|><|close|>tools<|sep|>"),
        ("muse_spark", '<atem:function_calls><atem:invoke name="add"><atem:parameter name="a">7'
         '</atem:parameter><atem:parameter name="b">2</atem:parameter></atem:invoke>'
         "</atem:function_calls>"),
    ],
)  # fmt: skip
def test_every_notation_with_types_of_its_own_gives_the_same_call(parser: str, text: str) -> None:
    module = importlib.import_module(f"mlx_lm.tool_parsers.{parser}")
    how = Notation(module.tool_call_start, module.tool_call_end, module.parse_tool_call)
    said, call = call_messages(f"I add. {text}", how, RETURN)
    assert (said.recipient, said.text, said.closed_by) == (None, "I add.", END)
    assert (call.recipient, call.text) == (ADD.recipient, ADD.text)
    assert (call.closed_by, call.defects) == (CALL_TOKEN, ())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text("abc_", min_size=1), JSON, max_size=3))
def test_arguments_come_back_as_they_were_written(
    native: Make, arguments: dict[str, object]
) -> None:
    adapter = native("byte level", QWEN)
    # JSON may escape what a marker is made of, as in this text every model would have to
    written = json.dumps({"name": "f", "arguments": arguments}).replace("<", "\\u003c")
    found = read(adapter, f"<tool_call>{written}</tool_call>")
    assert found.well_formed
    assert json.loads(found.calls[0].text) == arguments


PARTS = st.sampled_from(
    ["<tool_call>", "</tool_call>", "<think>", "</think>", "[TOOL_CALLS]", "[ARGS]", '{"name": "f"',
     ', "arguments": {}}', "{}", "f", " ", "<|im_end|>", "[INST]", "x"]
)  # fmt: skip


@given(st.lists(PARTS, max_size=10).map("".join), st.sampled_from([QWEN, MISTRAL]))
def test_any_mixture_of_markers_is_read_and_judged(native: Make, text: str, family: str) -> None:
    adapter = native("byte level", family)
    tokens = adapter._tokenizer.encode(text, add_special_tokens=False)
    for reason in StopReason:
        parse = adapter.parse(tokens, reason)
        assert parse.well_formed is (not parse.problems)
        if parse.well_formed:
            assert (parse.text("final") is None) is bool(parse.calls)
