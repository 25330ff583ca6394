"""200 schemas of the kinds that people use: whatever the masks allow fulfils them."""

import pytest

from corpora.schemas import SCHEMAS
from helpers.grammars import of_schema, spell, walk
from mh_batch.engine.constraint.check import check_form
from mh_batch.engine.constraint.validation.answers import find_error
from mh_batch.jobs.answers.forms import Form


def test_there_are_two_hundred_different_schemas() -> None:
    assert len(SCHEMAS) == 200
    assert len({str(schema) for schema in SCHEMAS.values()}) == 200


@pytest.mark.parametrize("kind", sorted({name.partition(" ")[0] for name in SCHEMAS}))
def test_answers_drawn_at_random_from_what_is_allowed_fulfil_their_schema(kind: str) -> None:
    chosen = {name: schema for name, schema in SCHEMAS.items() if name.startswith(f"{kind} ")}
    assert len(chosen) == 20
    for name, schema in chosen.items():
        check_form(Form("json_schema", schema))
        answer = spell(walk(of_schema(schema), name, steps=40))
        assert find_error(schema, answer) is None, (name, answer)
