"""Calls of families with a chat template, by grammar: allowed as mlx-lm's parsers read them."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from llguidance import LLMatcher
from mlx_lm.tool_parsers import (
    function_gemma,
    gemma4,
    glm47,
    kimi_k2,
    kimi_k3,
    longcat,
    minicpm5,
    minimax_m2,
    mistral,
    muse_spark,
    pythonic,
    qwen3_coder,
)

from mh_batch.engine.chat_template.grammar.completion import CompletionGrammar
from mh_batch.engine.constraint.bounds import Bounds, Call
from mh_batch.engine.constraint.byte_table import BYTES, byte_table
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.errors import JobError

ADD = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
BOUND = Call("add", ADD)


@pytest.mark.parametrize(
    ("module", "added", "text"),
    [
        (kimi_k2,
         ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>",
          "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
         "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0"
         '<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|><|tool_calls_section_end|>'),
        (kimi_k3, ("<|open|>", "<|close|>", "<|sep|>"),
         '<|open|>tools<|sep|>\n<|open|>call tool="add" index="1"<|sep|>'
         '<|open|>json type="object"<|sep|>{"a": 1}<|close|>json<|sep|>'
         "<|close|>call<|sep|><|close|>tools<|sep|>"),
        # before it had `[ARGS]`
        (mistral, (), '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}]'),
    ],
)  # fmt: skip
def test_calls_of_other_families_are_allowed_as_mlx_lm_reads_them(
    module: Any, added: tuple[str, ...], text: str
) -> None:
    inside = text.removeprefix(module.tool_call_start).removesuffix(module.tool_call_end)
    found = module.parse_tool_call(inside)
    (call,) = found if isinstance(found, list) else [found]
    assert (call["name"], call["arguments"]) == ("add", {"a": 1})
    takes = reader_of_bytes(grammar_of_calls(module, added, BOUND), added)
    assert takes(text)
    for other in (text.replace("add", "x"), text.replace("1", "null"), text.replace("}", "")):
        assert not takes(other)


TAGGED: dict[str, tuple[Any, str, str, str]] = {
    # a call of `book` with an argument missing, how an argument is written, and the tags
    "qwen3_coder": (
        qwen3_coder,
        "<tool_call>\n<function=book>\n{}</function>\n</tool_call>",
        "<parameter={}>\n{}\n</parameter>\n",
        "</parameter>",
    ),
    "minicpm5": (
        minicpm5,
        '<function name="book">{}</function>',
        '<param name="{}">{}</param>',
        "</param>",
    ),
    "minimax_m2": (
        minimax_m2,
        '<minimax:tool_call>\n<invoke name="book">\n{}</invoke>\n</minimax:tool_call>',
        '<parameter name="{}">{}</parameter>\n',
        "</parameter>",
    ),
    "glm47": (
        glm47,
        "<tool_call>book\n{}</tool_call>",
        "<arg_key>{}</arg_key>\n<arg_value>{}</arg_value>\n",
        "</arg_value>",
    ),
    "longcat": (
        longcat,
        "<longcat_tool_call>book\n{}</longcat_tool_call>",
        "<longcat_arg_key>{}</longcat_arg_key>\n<longcat_arg_value>{}</longcat_arg_value>\n",
        "</longcat_arg_value>",
    ),
}
BOOK = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Where to."},
        "nights": {"type": "integer", "minimum": 1, "maximum": 30},
        "room": {"type": "string", "enum": ["single", "double"]},
        "extras": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["city", "nights"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("tokens", [True, False], ids=["tags are tokens", "tags are text"])
@pytest.mark.parametrize("notation", TAGGED)
def test_calls_in_tags_are_allowed_as_mlx_lm_reads_them(notation: str, *, tokens: bool) -> None:
    module, whole, argument, closing = TAGGED[notation]
    added = (module.tool_call_start, module.tool_call_end, closing) if tokens else ()
    book = Call("book", BOOK, BOOK, strict=True)
    takes = reader_of_bytes(grammar_of_calls(module, added, book), added)
    tools = [{"type": "function", "function": {"name": "book", "parameters": BOOK}}]

    def written(**arguments: str) -> str:
        return whole.format("".join(argument.format(*pair) for pair in arguments.items()))

    for arguments, meant in (
        ({"city": "New York\n<b>", "nights": "3"}, {"city": "New York\n<b>", "nights": 3}),
        ({"city": "5", "nights": "30", "room": "double", "extras": '["a", "b"]'},
         {"city": "5", "nights": 30, "room": "double", "extras": ["a", "b"]}),
    ):  # fmt: skip
        text = written(**arguments)
        assert takes(text)
        inside = text.removeprefix(module.tool_call_start).removesuffix(module.tool_call_end)
        call = module.parse_tool_call(inside, tools)
        assert (call["name"], call["arguments"]) == ("book", meant)
    for others in (
        {"city": "Rome"},
        {"nights": "3"},
        {"city": "Rome", "nights": "31"},
        {"city": "Rome", "nights": "three"},
        {"city": "null", "nights": "3"},
        {"city": "Rome", "nights": "3", "room": "any"},
        {"city": "Rome", "nights": "3", "other": "1"},
        {"nights": "3", "city": "Rome"},
    ):
        assert not takes(written(**others)), others
    assert not takes(written(city="Rome", nights="3").replace("book", "cook"))


def test_calls_in_a_notation_that_is_not_known_are_refused() -> None:
    with pytest.raises(JobError, match="calls in the notation of muse_spark cannot be bound"):
        grammar_of_calls(muse_spark, (), BOUND)


GEMMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "nights": {"type": "integer", "maximum": 30},
        "room": {"enum": ["single", "double, large"]},
        "late": {"type": "boolean"},
    },
    "required": ["nights"],
}


@pytest.mark.parametrize("tokens", [True, False], ids=["marks are tokens", "marks are text"])
@pytest.mark.parametrize(("module", "mark"), [(gemma4, '<|"|>'), (function_gemma, "<escape>")])
def test_calls_of_gemma_are_allowed_as_mlx_lm_reads_them(
    module: Any, mark: str, *, tokens: bool
) -> None:
    start, end = module.tool_call_start, module.tool_call_end
    added = (start, end, mark) if tokens else ()
    book = Call("book", GEMMA, GEMMA, strict=True)
    takes = reader_of_bytes(grammar_of_calls(module, added, book), added)
    for written, meant in (
        ("nights:3", {"nights": 3}),
        ("city:'Rome, (a: 1) \"<b>',nights:-4", {"city": 'Rome, (a: 1) "<b>', "nights": -4}),
        ("nights:1,room:'double, large',late:true",
         {"nights": 1, "room": "double, large", "late": True}),
    ):  # fmt: skip
        text = written.replace("'", mark)
        assert takes(f"{start}call:book{{{text}}}{end}"), text
        call = module.parse_tool_call(f"call:book{{{text}}}")
        assert (call["name"], call["arguments"]) == ("book", meant)
    for other in (
        "",
        "nights:31",
        "nights:'3'",
        "nights:3,",
        "room:'single',city:'x',nights:1",
        "nights:1,room:'triple'",
        "nights:1,more:1",
        "city:'Ro'me',nights:1",
    ):
        assert not takes(f"{start}call:book{{{other}}}{end}".replace("'", mark)), other
    loose = Call("book", {"type": "object"}, GEMMA)
    takes = reader_of_bytes(grammar_of_calls(module, added, loose), added)
    assert takes(f"{start}call:book{{nights:'x',late:-1.5}}{end}".replace("'", mark))
    nested = "nights:[{a:'}',b:[]},null]".replace("'", mark)
    assert takes(f"{start}call:book{{{nested}}}{end}") is (module is gemma4)
    if module is gemma4:
        found = gemma4.parse_tool_call(f"call:book{{{nested}}}")["arguments"]
        assert found == {"nights": [{"a": "}", "b": []}, None]}
    strict = {"type": "object", "properties": {"x": {"type": "string", "pattern": "a"}}}
    with pytest.raises(JobError, match="tool f: x cannot be bound"):
        grammar_of_calls(module, added, Call("f", strict, strict, strict=True))


LISTED = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "pattern": "^[A-Z]"},
        "nights": {"type": "integer", "maximum": 30},
        "guests": {"type": "array", "items": {"$ref": "#/$defs/guest"}},
        "late": {"type": ["boolean", "null"]},
    },
    "required": ["nights"],
    "$defs": {"guest": {"type": "object", "properties": {"name": {"type": "string"}}}},
}


def test_calls_of_python_are_allowed_as_mlx_lm_reads_them() -> None:
    book = Call("book", LISTED, LISTED, strict=True)
    takes = reader_of_bytes(grammar_of_calls(pythonic, (), book), ())
    start, end = pythonic.tool_call_start, pythonic.tool_call_end
    for written, meant in (
        ("nights=3", {"nights": 3}),
        ('city="Rome \\"(b)]\\n", nights=-4', {"city": 'Rome "(b)]\n', "nights": -4}),
        ("nights=1, late=null", {"nights": 1, "late": None}),
        ('nights=1, guests=[{"name": "a=1, b"}, {"name": "]"}], late=true',
         {"nights": 1, "guests": [{"name": "a=1, b"}, {"name": "]"}], "late": True}),
    ):  # fmt: skip
        assert takes(f"{start}[book({written})]{end}"), written
        call = pythonic.parse_tool_call(f"[book({written})]")
        assert (call["name"], call["arguments"]) == ("book", meant)
        both = pythonic.parse_tool_call(f"[book({written}), book({written})]")
        assert takes(f"{start}[book({written}), book({written})]{end}")
        assert [one["arguments"] for one in both] == [meant, meant]
    for other in (
        "",
        "nights=31",
        "nights=3,",
        ", nights=3",
        'nights="3"',
        "late=null, nights=1",
        'city="rome", nights=1',
        "nights=1, more=1",
        "nights=1 nights=1",
    ):
        assert not takes(f"{start}[book({other})]{end}"), other
    loose = Call("book", {"type": "object"}, LISTED | {"required": []})
    takes = reader_of_bytes(grammar_of_calls(pythonic, (), loose), ())
    assert takes(f"{start}[book()]{end}")
    assert takes(f'{start}[book(city=5, late="x")]{end}')
    assert not takes(f"{start}[book(more=1)]{end}")


def test_names_that_python_does_not_read_are_refused() -> None:
    declared = {"type": "object", "properties": {"first name": {"type": "string"}}}
    with pytest.raises(JobError, match="tool f: this model cannot write 'first name' in a call"):
        grammar_of_calls(pythonic, (), Call("f", declared, declared))
    for name in ("a-b", "class"):
        with pytest.raises(JobError, match=f"tool {name}: this model cannot write '{name}'"):
            grammar_of_calls(pythonic, (), Call(name, ADD, ADD))


def test_a_text_that_would_end_a_call_of_minicpm_is_not_allowed() -> None:
    declared = {"type": "object", "properties": {"x": {"type": "string"}}}
    takes = reader_of_bytes(grammar_of_calls(minicpm5, (), Call("f", declared, declared)), ())
    assert takes('<function name="f"><param name="x">a < b</param></function>')
    assert not takes('<function name="f"><param name="x">a</function>b</param></function>')


def test_a_strict_function_that_tags_cannot_bind_is_refused() -> None:
    for schema in (
        {"type": "string", "pattern": "a+"},
        {"type": ["string", "null"]},
        {"enum": ["a", 1]},
        {"enum": ["null"]},
    ):
        declared = {"type": "object", "properties": {"x": schema}}
        with pytest.raises(JobError, match="tool f: x cannot be bound"):
            grammar_of_calls(qwen3_coder, (), Call("f", declared, declared, strict=True))
        loose = grammar_of_calls(qwen3_coder, (), Call("f", {"type": "object"}, declared))
        takes = reader_of_bytes(loose, ())
        shape = (
            "<tool_call>\n<function=f>\n<parameter=x>\n{}</parameter>\n</function>\n</tool_call>"
        )
        assert takes(shape.format("anything\n"))
        assert not takes(shape.format("anything</parameter>"))


@pytest.mark.parametrize("opens", [True, False])
def test_reasoning_between_tags_that_are_text_ends_at_the_first_closing_one(*, opens: bool) -> None:
    made = CompletionGrammar(wrapper(mistral, ()), opens_thinking=opens, writes_thinking=True)
    grammar = made.grammar(Bounds(True, Form("json_schema", ADD), (), False))
    assert grammar is not None
    takes, begun = reader_of_bytes(grammar, ()), "" if opens else "<think>"
    assert takes(f'{begun}Hm. </think </think>\n\n{{"a": 1}}')
    assert takes('{"a": 1}') is not opens
    assert not takes(f'{begun}Hm.</think>x</think>{{"a": 1}}')
    assert not takes(f'{begun}Hm. {{"a": 1}}')


def grammar_of_calls(module: Any, added: tuple[str, ...], call: Call) -> str:
    """The grammar of a completion that is a call, in a notation of mlx-lm."""
    made = CompletionGrammar(wrapper(module, added), opens_thinking=False, writes_thinking=False)
    grammar = made.grammar(Bounds(False, None, (call,), True))
    assert grammar is not None
    return grammar


def reader_of_bytes(grammar: str, added: tuple[str, ...]) -> Callable[[str], bool]:
    """What says whether a text is complete, by a table of bytes and added tokens."""
    reads = LLMatcher(byte_table(added), grammar, log_level=0)
    assert not reads.is_error(), reads.get_error()

    def takes(text: str) -> bool:
        ids = byte_ids(text, added)
        taken = reads.try_consume_tokens(ids)
        complete = taken == len(ids) and reads.is_accepting()
        assert reads.rollback(taken)
        return complete

    return takes


def byte_ids(text: str, added: tuple[str, ...]) -> list[int]:
    """The ids of a text by a table of bytes and added tokens."""
    parts = re.split("|".join(f"({re.escape(name)})" for name in added) or "(?!)", text)
    known = {name: BYTES + 1 + i for i, name in enumerate(added)}
    return [i for p in parts if p for i in ([known[p]] if p in known else p.encode())]


def wrapper(module: Any, added: tuple[str, ...]) -> Any:
    """What mlx-lm's wrapper of a tokeniser says about calls."""
    return SimpleNamespace(
        _tokenizer=SimpleNamespace(
            added_tokens_decoder=dict(enumerate(added, start=BYTES + 1)), get_vocab=dict
        ),
        has_tool_calling=True,
        tool_parser=module.parse_tool_call,
        tool_call_start=module.tool_call_start,
        tool_call_end=module.tool_call_end,
    )
