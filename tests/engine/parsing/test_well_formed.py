"""What a call of a declared tool must have."""

import pytest

from helpers.documents import PROBLEMS
from helpers.paths import ROOT
from mh_batch.engine.parsing.calls import check_calls
from mh_batch.jobs.conversation import FunctionSpec, Tool
from mh_batch.jobs.generation import Channel, Parse, ParserTier

CALL = Parse(
    parser_version=1,
    tier=ParserTier.STRICT,
    well_formed=True,
    problems=(),
    channels=(Channel("commentary", '{"a": 7}', "functions.add", "json"),),
)


@pytest.mark.parametrize(
    ("required", "problems"),
    [
        (["a"], ()),
        (["a", "b"], ("missing_argument",)),
        ([{"a": 1}, ["a"], None], ()),
        ({"a": 1}, ()),
    ],
)
def test_a_call_needs_the_names_that_the_schema_requires(
    required: object, problems: tuple[str, ...]
) -> None:
    tool = Tool(FunctionSpec("add", parameters={"required": required}))
    assert check_calls(CALL, (tool,)).problems == problems


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_a_problem_that_the_docs_explain_is_one_that_is_found(code: str) -> None:
    found = [*(ROOT / "engine").rglob("*.py"), ROOT / "jobs" / "answers" / "forms.py"]
    assert any(f'"{code}"' in path.read_text() for path in found)
