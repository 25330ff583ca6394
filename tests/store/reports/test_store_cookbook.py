"""Named SQL is found by its name, and the cookbook's only reads."""

from pathlib import Path

import pytest
from sqlite_utils import Database

from helpers.queries import query
from helpers.store_samples import finish_next, lines, start, submit
from mh_batch.jobs.errors import UnknownTarget
from mh_batch.store.reports.query import recipe, recipes
from mh_batch.store.sql import Entry, entries

TEXT = """
-- about the file

-- name: first
-- What is it,
-- in two lines?
SELECT 1 -- one
;

-- name: second
SELECT
-- name: is a column here
    2;
"""


def test_each_statement_has_its_name_its_question_and_no_semicolon() -> None:
    found = entries(TEXT)
    assert list(found) == ["first", "second"]
    assert found["first"].about == "What is it, in two lines?"
    assert found["first"].sql.split() == ["SELECT", "1", "--", "one"]
    assert found["second"] == Entry("second", "", "SELECT\n-- name: is a column here\n    2")


def test_a_text_without_names_holds_nothing() -> None:
    assert entries("SELECT 1") == {}


def test_every_recipe_asks_a_question() -> None:
    assert len(recipes()) >= 12
    for name, entry in recipes().items():
        assert entry.about.endswith(("?", ".")), name
        assert ":" not in entry.sql.replace("T%H:00Z", ""), f"{name} needs a value"


def test_a_mistyped_recipe_is_answered_with_the_near_one() -> None:
    with pytest.raises(UnknownTarget, match="did you mean slowest"):
        recipe("slowst")
    with pytest.raises(UnknownTarget, match="must be one of outcomes, "):
        recipe("xyz")


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_a_query_that_may_run_on_an_empty_and_on_a_used_database(
    name: str, path: Path, db: Database
) -> None:
    for _ in range(2):
        columns, rows = query(path, recipe(name).sql)
        for row in rows:
            assert len(row) == len(columns)
        submit(db, lines(2))
        finish_next(db, start(db))
