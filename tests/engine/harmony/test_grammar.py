"""The grammar of a whole Harmony completion: what it allows, and what the parser makes of that."""

import itertools
from typing import Any

import pytest

from corpora.schemas import SCHEMAS
from helpers.grammars import accepts, begins, matcher, reads_all, spell, walk
from helpers.spelled import encode
from mh_batch.engine.constraint.validation.answers import find_error
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.engine.harmony.special_tokens import spell as spell_harmony
from mh_batch.engine.parsing.calls import check_calls
from mh_batch.jobs.answers.forms import AUTO, Form, ToolChoice
from mh_batch.jobs.conversation import FunctionSpec, Message, Tool
from mh_batch.jobs.generation import Parse, ParserTier, Prompt, StopReason

ARGUMENTS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
STRICT = Tool(FunctionSpec("add", None, ARGUMENTS, strict=True))
LOOSE = Tool(FunctionSpec("addjson"))
TOOLS = (STRICT, LOOSE)
FORM = Form("json_schema", ARGUMENTS)

THOUGHTS = (
    "",
    "<|channel|>analysis<|message|>Hm.\nWell.<|end|><|start|>assistant",
    "<|channel|>analysis<|message|><|end|><|start|>assistant"
    "<|channel|>commentary<|message|>I add.<|end|><|start|>assistant",
)
FINAL = '<|channel|>final<|message|>{"a": 1}'
CALL = '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}<|call|>'


@pytest.fixture(scope="module")
def harmony() -> HarmonyAdapter:
    return HarmonyAdapter()


def prompt(
    form: Form | None = None, tools: tuple[Tool, ...] = (), choice: ToolChoice = AUTO
) -> Prompt:
    return Prompt((Message("user", "Hi"),), "2025-01-01", tools, form=form, tool_choice=choice)


def grammar(
    form: Form | None = None, tools: tuple[Tool, ...] = (), choice: ToolChoice = AUTO
) -> str:
    made = HarmonyAdapter().grammar(prompt(form, tools, choice))
    assert made is not None
    return made


def parse(harmony: HarmonyAdapter, text: str, tools: tuple[Tool, ...] = TOOLS) -> Parse:
    """The parse of a completion, its end token added behind an answer."""
    ended = text if text.endswith("<|call|>") else f"{text}<|return|>"
    return check_calls(harmony.parse(encode(ended), StopReason.STOP_TOKEN), tools)


@pytest.mark.parametrize(
    ("tools", "choice"),
    [((), AUTO), ((LOOSE,), AUTO), ((), ToolChoice("none"))],
)
def test_nothing_is_bound_without_a_form_a_strict_tool_and_a_choice(
    harmony: HarmonyAdapter, tools: tuple[Tool, ...], choice: ToolChoice
) -> None:
    assert harmony.grammar(prompt(None, tools, choice)) is None


@pytest.mark.parametrize("thoughts", THOUGHTS)
@pytest.mark.parametrize(
    ("end", "allowed"),
    [
        (FINAL, True),
        ('<|channel|>final <|constrain|>json<|message|>{"a": 1}', True),
        ('<|channel|>final<|constrain|>json<|message|>{\n  "a": 1\n}', True),
        (CALL, True),
        ('<|channel|>final<|message|>Here it is: {"a": 1}', False),
        ('<|channel|>final<|message|>{"a": "1"}', False),
        ('<|channel|>final<|message|>{"a": 1}<|end|>', False),
        (f"{FINAL}<|end|><|start|>assistant{FINAL}", False),
        (f"{FINAL}<|end|><|start|>assistant{CALL}", False),
        (f"{CALL}<|start|>assistant{FINAL}", False),
        ('<|channel|>analysis<|message|>{"a": 1}', False),
        ('<|channel|>thoughts<|message|>{"a": 1}', False),
        ('<|message|>{"a": 1}', False),
        ('{"a": 1}', False),
        ("", False),
        ("<|channel|>final<|message|>", False),
        ('<|start|>user<|message|>{"a": 1}', False),
    ],
)
def test_only_the_end_of_a_completion_is_bound(thoughts: str, end: str, *, allowed: bool) -> None:
    assert accepts(grammar(FORM, TOOLS), thoughts + end) is allowed


CALL_TYPES = ("", " <|constrain|>json", "<|constrain|>json", " json", " code", " <|constrain|>code")
BAD_TYPES = (" text", "json", " <|constrain|>xml", " <|constrain|>")


@pytest.mark.parametrize("order", ["role", "channel"])
def test_calls_are_allowed_as_the_strict_parser_reads_them(
    harmony: HarmonyAdapter, order: str
) -> None:
    reads = matcher(grammar(None, TOOLS))
    for name, kind in itertools.product(("add", "addjson", "ad"), CALL_TYPES + BAD_TYPES):
        to, body = f" to=functions.{name}", '<|message|>{"a": 1}<|call|>'
        if order == "role":
            text = f"{to}<|channel|>commentary{kind}{body}"
        else:
            text = f"<|channel|>commentary{to}{kind}{body}"
        found = parse(harmony, text)
        wellformed = found.well_formed and found.tier is ParserTier.STRICT
        assert reads_all(reads, text) == wellformed, (text, found)


@pytest.mark.parametrize(
    ("arguments", "strict", "loose"),
    [
        ('{"a": 1}', True, True),
        ('{"a": "1"}', False, True),
        ('{"a": 1, "b": 2}', False, True),
        ("{}", False, True),
        ("[1]", False, False),
        ('{"a": 1', False, False),
        ("", False, False),
    ],
)
def test_only_arguments_of_a_strict_function_are_bound_by_its_schema(
    arguments: str, *, strict: bool, loose: bool
) -> None:
    reads = matcher(grammar(None, TOOLS))
    for name, allowed in (("add", strict), ("addjson", loose)):
        call = f"<|channel|>commentary to=functions.{name}<|message|>{arguments}<|call|>"
        assert reads_all(reads, call) is allowed


@pytest.mark.parametrize(
    ("choice", "final", "add", "addjson"),
    [
        (AUTO, True, True, True),
        (ToolChoice("none"), True, False, False),
        (ToolChoice("required"), False, True, True),
        (ToolChoice("required", "addjson"), False, False, True),
    ],
)
@pytest.mark.parametrize("form", [None, FORM], ids=["no form", "form"])
def test_tool_choice_says_whether_it_ends_with_a_call(
    form: Form | None, choice: ToolChoice, *, final: bool, add: bool, addjson: bool
) -> None:
    reads = matcher(grammar(form, TOOLS, choice))
    assert reads_all(reads, THOUGHTS[2] + FINAL) is final
    assert reads_all(reads, THOUGHTS[2] + CALL) is add
    assert reads_all(reads, THOUGHTS[2] + CALL.replace("add", "addjson")) is addjson


def test_a_function_without_parameters_is_called_with_none() -> None:
    reads = matcher(grammar(None, (Tool(FunctionSpec("now", strict=True)),)))
    call = "<|channel|>commentary to=functions.now<|message|>{}<|call|>"
    assert reads_all(reads, call)
    assert not reads_all(reads, call.replace("{}", '{"a": 1}'))


def test_a_free_answer_is_any_text_but_a_blank_one() -> None:
    reads = matcher(grammar(None, TOOLS))
    head = "<|channel|>final<|message|>"
    assert reads_all(reads, f"{head}\n Hello <b>there</b>.\n")
    for blank in ("", " \n", "\u2003", "\x1c", "\x85"):
        assert not reads_all(reads, head + blank)


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (Form("json_object"), '{"b": []}'),
        (Form("regex", "[a-c]+/d"), "abc/d"),
        (Form("choice", ("yes", "no")), "no"),
        (Form("grammar", 'start: "x" start | "y"'), "xxy"),
    ],
)
def test_every_kind_of_form_binds_the_answer(form: Form, body: str) -> None:
    reads = matcher(grammar(form))
    assert reads_all(reads, f"{THOUGHTS[1]}<|channel|>final<|message|>{body}")
    assert not reads_all(reads, f"{THOUGHTS[1]}<|channel|>final<|message|>{body} {body}")
    named = f"{THOUGHTS[1]}<|channel|>final <|constrain|>json<|message|>{body}"
    assert reads_all(reads, named) is form.is_json


def test_the_prefill_of_a_forced_final_is_the_beginning_of_a_completion(
    harmony: HarmonyAdapter,
) -> None:
    cut = f"{THOUGHTS[2]}<|channel|>analysis<|message|>And so on, and"
    prefill = spell_harmony(harmony.forced_final(encode(cut)))
    assert prefill.endswith("<|channel|>final<|message|>")
    assert begins(grammar(FORM), prefill)
    assert accepts(grammar(FORM), prefill + '{"a": 1}')
    assert begins(grammar(FORM), cut)
    assert not begins(grammar(FORM, TOOLS, ToolChoice("required")), prefill)


CASES: dict[str, tuple[Form | None, tuple[Tool, ...], ToolChoice]] = {
    "form": (FORM, (), AUTO),
    "form and calls": (FORM, TOOLS, AUTO),
    "text or calls": (None, TOOLS, AUTO),
    "no calls": (None, TOOLS, ToolChoice("none")),
    "a call": (None, TOOLS, ToolChoice("required")),
    "choices": (Form("choice", ("yes", "no")), (), AUTO),
    "expression": (Form("regex", r"\w+( \w+)?"), (), AUTO),
} | {
    f"schema {name}": (Form("json_schema", SCHEMAS[name]), (), AUTO) for name in list(SCHEMAS)[::23]
}


@pytest.mark.parametrize("case", CASES)
def test_whatever_the_masks_allow_is_a_well_formed_completion(
    harmony: HarmonyAdapter, case: str
) -> None:
    form, tools, choice = CASES[case]
    for number in range(3):
        text = spell(walk(grammar(form, tools, choice), (case, number)))
        found = parse(harmony, text, tools)
        assert found.well_formed, (text, found.problems)
        _check_end(found, form, tools)


def _check_end(found: Parse, form: Form | None, tools: tuple[Tool, ...]) -> None:
    schemas: dict[str, Any] = {"functions.add": ARGUMENTS, "functions.addjson": {"type": "object"}}
    if found.calls:
        (call,) = found.calls
        assert call.recipient in {f"functions.{tool.function.name}" for tool in tools}
        assert find_error(schemas[call.recipient or ""], call.text) is None
    elif form is not None and form.kind == "json_schema":
        assert find_error(form.value, found.text("final") or "") is None
    else:
        assert (found.text("final") or "").strip()
