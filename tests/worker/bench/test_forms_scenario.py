"""The scenario `forms`: what it measures is a form, and outlasts what is measured."""

import json

from helpers.grammars import begins
from mh_batch.engine.constraint.check import check_form
from mh_batch.jobs.answers.forms import Form
from mh_batch.worker.bench.scenarios.forms import SCHEMA, grammar
from mh_batch.worker.bench.workload import FULL

RECORD = {"name": "", "kind": "stone", "number": 0, "tags": []}


def test_its_schema_is_one_that_is_taken_and_longer_than_what_is_measured() -> None:
    check_form(Form("json_schema", SCHEMA))
    # a record takes more than ten tokens
    assert 10 * SCHEMA["minItems"] > max(FULL.decode, FULL.larger)


def test_its_grammar_binds_the_final_message() -> None:
    for records, kept in (([RECORD], True), ([RECORD | {"kind": "cloud"}], False)):
        text = json.dumps(records).removesuffix("]")
        assert begins(grammar(), f"<|channel|>final<|message|>{text}") is kept
    assert not begins(grammar(), "<|channel|>final<|message|>[]")
    assert not begins(grammar(), "<|channel|>analysis")
