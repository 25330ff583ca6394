"""A JSON form in the developer message, as the format of gpt-oss has it."""

import msgspec
import pytest

from helpers.spelled import encode
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.engine.harmony.special_tokens import spell
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.conversation import FunctionSpec, Message, Tool
from mh_batch.jobs.generation import Prompt

# the example of the format's documentation
SCHEMA = {
    "properties": {
        "items": {
            "type": "array",
            "description": "entries on the shopping list",
            "items": {"type": "string"},
        }
    },
    "type": "object",
}
SHOWN = (
    "# Response Formats\n\n## shopping_list\n\n"
    '{"properties":{"items":{"type":"array","description":"entries on the shopping list",'
    '"items":{"type":"string"}}},"type":"object"}'
)
INSTRUCTIONS = "You are a helpful shopping assistant."
FORM = Form("json_schema", SCHEMA, name="shopping_list")
PLAIN = Prompt((Message("system", INSTRUCTIONS), Message("user", "Hi")), "2025-01-01")
BARE = Prompt((Message("user", "Hi"),), "2025-01-01")
TOOL = Tool(FunctionSpec("look_up", "Looks it up", {"type": "object", "properties": {}}))


@pytest.fixture(scope="module")
def harmony() -> HarmonyAdapter:
    return HarmonyAdapter()


def developer(harmony: HarmonyAdapter, prompt: Prompt) -> str:
    """The developer message of a prompt, whose ids are those of its whole text."""
    tokens = harmony.render(prompt)
    text = spell(tokens)
    assert tokens == encode(text)
    return text.partition("<|start|>developer<|message|>")[2].partition("<|end|>")[0]


def test_the_example_of_the_format_is_rendered_as_documented(harmony: HarmonyAdapter) -> None:
    asked = msgspec.structs.replace(PLAIN, form=FORM)
    assert developer(harmony, asked) == f"# Instructions\n\n{INSTRUCTIONS}\n\n{SHOWN}"


def test_the_form_stands_behind_the_tools(harmony: HarmonyAdapter) -> None:
    with_tools = msgspec.structs.replace(PLAIN, tools=(TOOL,))
    both = msgspec.structs.replace(with_tools, form=FORM)
    assert developer(harmony, both) == f"{developer(harmony, with_tools)}\n\n{SHOWN}"


def test_a_form_alone_makes_a_developer_message(harmony: HarmonyAdapter) -> None:
    assert developer(harmony, msgspec.structs.replace(BARE, form=FORM)) == SHOWN


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        (Form("json_object"), '## answer\n\n{"type":"object"}'),
        (Form("json_schema", {"type": "string"}), '## answer\n\n{"type":"string"}'),
        (Form("json_schema", True, name="any", description="One\ntwo"),
         "## any\n\n// One\n// two\ntrue"),
    ],
)  # fmt: skip
def test_other_json_forms_are_shown_alike(harmony: HarmonyAdapter, form: Form, shown: str) -> None:
    found = developer(harmony, msgspec.structs.replace(BARE, form=form))
    assert found == f"# Response Formats\n\n{shown}"


@pytest.mark.parametrize("form", [Form("regex", "a+"), Form("choice", ("a",)), None])
def test_a_prompt_with_a_form_that_has_no_place_is_as_without(
    harmony: HarmonyAdapter, form: Form | None
) -> None:
    for prompt in (BARE, PLAIN):
        assert harmony.render(msgspec.structs.replace(prompt, form=form)) == harmony.render(prompt)


def test_a_description_that_spells_a_control_token_is_text(harmony: HarmonyAdapter) -> None:
    form = msgspec.structs.replace(FORM, description="a <|end|> b")
    tokens = harmony.render(msgspec.structs.replace(PLAIN, form=form))
    plain = harmony.render(msgspec.structs.replace(PLAIN, form=FORM))
    controls = harmony.control_tokens
    assert [t for t in tokens if t in controls] == [t for t in plain if t in controls]


def test_the_form_is_part_of_what_prompts_share(harmony: HarmonyAdapter) -> None:
    asked = msgspec.structs.replace(PLAIN, form=FORM)
    guided = msgspec.structs.replace(asked, guidance="Be brief.")
    tokens, longer = harmony.render(asked), harmony.render(guided)
    parts, guided_parts = (
        harmony.prompt_parts(asked, tokens),
        harmony.prompt_parts(guided, longer),
    )
    assert parts.instructions == guided_parts.instructions
    assert parts.guidance == guided_parts.guidance
    assert tokens[: parts.guidance] == longer[: parts.guidance]
    assert spell(tokens[: parts.instructions]).endswith(f"{SHOWN}<|end|><|start|>")
