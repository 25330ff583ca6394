"""The grammar of a whole completion of a model with a chat template."""

import functools
from collections.abc import Callable

import pytest
from llguidance import LLMatcher, LLTokenizer

from mh_batch.engine.chat_template.adapter import NativeAdapter
from mh_batch.engine.parsing.calls import check_calls
from mh_batch.jobs.answers.forms import AUTO, Form, ToolChoice
from mh_batch.jobs.conversation import FunctionSpec, Message, Tool
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import Prompt, StopReason

Make = Callable[[str, str], NativeAdapter]

PLAIN, OPENS = "ChatML", "Qwen, opens thinking"
QWEN, MISTRAL = "Qwen, calls only", "Mistral, calls"
ARGUMENTS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
TOOLS = (Tool(FunctionSpec("add", None, ARGUMENTS, strict=True)), Tool(FunctionSpec("say")))
FORM = Form("json_schema", ARGUMENTS)
NONE, REQUIRED = ToolChoice("none"), ToolChoice("required")
JSON = '{"a": 1}'
THOUGHT = "<think>\nHm.\n</think>\n\n"
ADD = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
SAY = '<tool_call>{"name":"say","arguments":{"b":[]}}</tool_call>'


class Reader:
    """Reads completions by the grammar of a prompt, as the masks would, and by the parser."""

    def __init__(self, adapter: NativeAdapter, prompt: Prompt) -> None:
        self.adapter = adapter
        self.prompt = prompt
        grammar = adapter.grammar(prompt)
        assert grammar is not None
        self.matcher = LLMatcher(table(adapter), grammar, log_level=0)
        assert not self.matcher.is_error(), self.matcher.get_error()

    def takes(self, text: str) -> bool:
        """Whether the grammar takes a text as complete; the parser then reads it without fault."""
        ids = self.adapter._tokenizer.encode(text, add_special_tokens=False)
        taken = self.matcher.try_consume_tokens(ids)
        complete = taken == len(ids) and self.matcher.is_accepting()
        assert self.matcher.rollback(taken)
        if complete:
            stopped = [*ids, *self.adapter.stop_tokens]
            parse = self.adapter.parse(stopped, StopReason.STOP_TOKEN)
            assert check_calls(parse, self.prompt.tools).well_formed, (text, parse)
        return complete


@functools.cache
def table(adapter: NativeAdapter) -> LLTokenizer:
    """llguidance's own table of the adapter's tokeniser."""
    content = adapter._tokenizer.backend_tokenizer.to_str()
    return LLTokenizer(content, eos_token=sorted(adapter.stop_tokens))


@pytest.fixture
def reader(native: Make) -> Callable[..., Reader]:
    def make(
        template: str,
        form: Form | None = None,
        tools: tuple[Tool, ...] = (),
        choice: ToolChoice = AUTO,
    ) -> Reader:
        messages = (Message("user", "Hi"),)
        prompt = Prompt(messages, "2025-01-01", tools, form=form, tool_choice=choice)
        return Reader(native("byte level", template), prompt)

    return make


@pytest.mark.parametrize(
    ("template", "texts", "others"),
    [
        (PLAIN, [JSON, THOUGHT + JSON, f"<think></think>{JSON}"],
         ["", f"Here: {JSON}", "Hm.\n</think>\n" + JSON, f"{THOUGHT}x{JSON}", THOUGHT,
          f"<think>a</think>b</think>{JSON}", '{"a": "1"}', JSON + JSON, f"<think>{JSON}"]),
        (OPENS, ["Hm.\n</think>\n\n" + JSON, f"</think>{JSON}"], [JSON, "Hm.\n</think>\n"]),
        (MISTRAL, [JSON], [f"[TOOL_CALLS]{JSON}", f"[INST]{JSON}"]),
    ],
)  # fmt: skip
def test_reasoning_is_free_and_the_answer_behind_it_is_bound(
    reader: Callable[..., Reader], template: str, texts: list[str], others: list[str]
) -> None:
    reads = reader(template, FORM)
    assert [text for text in texts if not reads.takes(text)] == []
    assert [text for text in others if reads.takes(text)] == []


@pytest.mark.parametrize(
    ("choice", "text", "add", "say"),
    [
        (AUTO, True, True, True),
        (NONE, True, False, False),
        (REQUIRED, False, True, True),
        (ToolChoice("required", "say"), False, False, True),
    ],
)
@pytest.mark.parametrize("begun", ["", THOUGHT])
def test_tool_choice_says_whether_it_ends_with_a_call(
    reader: Callable[..., Reader],
    begun: str,
    choice: ToolChoice,
    *,
    text: bool,
    add: bool,
    say: bool,
) -> None:
    reads = reader(QWEN, None, TOOLS, choice)
    assert reads.takes(f"{begun}I add.") is text
    assert reads.takes(begun + ADD) is add
    assert reads.takes(f"\n\n{begun}\n{ADD}") is add
    assert reads.takes(begun + SAY) is say
    assert reads.takes(f"{begun}{SAY}\n{ADD}\n") is (add and say)
    assert reads.takes(f"{begun}I add.\n{ADD}") is (text and add)
    assert not reads.takes(begun + SAY.replace("say", "other"))
    assert not reads.takes(begun + ADD.replace("1", '"1"'))
    assert not reads.takes(f"{begun}{SAY} and so on")
    assert not reads.takes(f"{begun} \n")


def test_a_text_that_spells_the_marker_of_a_call_is_not_taken_for_an_answer(
    reader: Callable[..., Reader],
) -> None:
    reads = reader(QWEN, None, TOOLS, NONE)
    spelled = [reads.adapter._tokenizer.encode(part)[0] for part in "<tool_call>"]
    assert reads.adapter.decode(spelled) == "<tool_call>"
    assert reads.matcher.try_consume_tokens(spelled) == len(spelled) - 1


def test_a_form_and_calls_leave_the_choice_between_them(reader: Callable[..., Reader]) -> None:
    reads = reader(QWEN, FORM, TOOLS)
    for text in (JSON, ADD, SAY, THOUGHT + JSON, THOUGHT + ADD):
        assert reads.takes(text)
    for text in ("Hi", f"Hi {ADD}", f"{JSON} {ADD}"):
        assert not reads.takes(text)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ('[TOOL_CALLS]add[ARGS]{"a": 1}', True),
        ('[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]say[ARGS]{}', True),
        ('[TOOL_CALLS]other[ARGS]{"a": 1}', False),
        ('[TOOL_CALLS]add[ARGS]{"a": "1"}', False),
        ('add[ARGS]{"a": 1}', False),
    ],
)
def test_calls_of_mistral_are_bound_too(
    reader: Callable[..., Reader], text: str, *, taken: bool
) -> None:
    assert reader(MISTRAL, None, TOOLS, REQUIRED).takes(text) is taken


def test_calls_of_a_model_without_a_notation_are_refused(reader: Callable[..., Reader]) -> None:
    for choice, tools in ((REQUIRED, TOOLS[1:]), (AUTO, TOOLS)):
        with pytest.raises(JobError, match="calls in the notation of this model cannot be bound"):
            reader(PLAIN, None, tools, choice)


def test_nothing_is_bound_where_the_model_has_no_notation_of_calls(native: Make) -> None:
    adapter = native("byte level", PLAIN)
    messages = (Message("user", "Hi"),)
    assert adapter.grammar(Prompt(messages, "2025-01-01", TOOLS[1:], tool_choice=NONE)) is None
    assert adapter.grammar(Prompt(messages, "2025-01-01", TOOLS[1:])) is None
    assert adapter.grammar(Prompt(messages, "2025-01-01", TOOLS[1:], form=FORM)) is not None
