"""The tests of the JSON Schema Test Suite for draft 2020-12, on those schemas that are taken."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from helpers.documents import section
from helpers.grammars import dumps, matcher, of_schema, reads_all
from helpers.paths import ROOT
from mh_batch.engine.constraint.check import check_form
from mh_batch.engine.constraint.validation.answers import find_error
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.errors import SettingsError

SUITE = ROOT / "tests" / "corpora" / "json_schema_suite"


class Case(NamedTuple):
    """A schema of the suite and its instances."""

    name: str
    schema: Any
    tests: list[dict[str, Any]]


def cases() -> Iterator[Case]:
    for path in sorted(SUITE.glob("*.json")):
        for case in json.loads(path.read_text()):
            yield Case(f"{path.stem}: {case['description']}", case["schema"], case["tests"])


def is_taken(schema: Any) -> bool:
    try:
        check_form(Form("json_schema", schema))
    except SettingsError:
        return False
    return True


@pytest.fixture(scope="module")
def taken() -> list[Case]:
    return [case for case in cases() if is_taken(case.schema)]


@pytest.fixture(scope="module")
def accepted(taken: list[Case]) -> dict[bool, list[bool]]:
    """Whether each instance can be written, by whether it is valid."""
    found: dict[bool, list[bool]] = {True: [], False: []}
    for case in taken:
        reads = matcher(of_schema(case.schema))
        for test in case.tests:
            found[test["valid"]].append(any(reads_all(reads, t) for t in dumps(test["data"])))
    return found


def test_no_invalid_instance_of_the_suite_is_accepted(accepted: dict[bool, list[bool]]) -> None:
    assert len(accepted[False]) > 200
    assert not any(accepted[False])


def test_the_share_of_the_suite_that_is_taken_is_the_one_in_the_documents(
    taken: list[Case], accepted: dict[bool, list[bool]]
) -> None:
    valid, invalid = accepted[True], accepted[False]
    cells = (
        sum(1 for _ in cases()),
        len(taken),
        f"{valid.count(False)} of {len(valid)}",
        f"{invalid.count(True)} of {len(invalid)}",
    )
    row = f"| {' | '.join(map(str, cells))} |"
    assert row in section("docs/formats.md", "Forms of answers").splitlines()


def test_the_check_of_answers_agrees_with_the_suite(taken: list[Case]) -> None:
    for case in taken:
        for test in case.tests:
            found = find_error(case.schema, json.dumps(test["data"]))
            assert (found is None) == test["valid"], (case.name, test)
