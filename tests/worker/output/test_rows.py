"""Rows are data: a spreadsheet runs none of them, and a file has them as they are."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.command_line import mh_batch, write_lines
from mh_batch.worker.output.rows import csv_writer, harmless, json_writer

FORMULAS = [
    "=cmd|'/C calc'!A0",
    "+1+cmd|'/C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "- item",
    "-",
    "+",
    "-1,000",
    "+inf",
    "-1 ",
    "-1\n",
    "\uff1d1+1",
    "-\u0663",
    " =1",
    "\u00a0+1+1",
    "\u2003\v@SUM(1)",
    " -1",
]
PLAIN = ["-1.5", "+3e4", "+1", "-.5", "-5.", "-1E-9", "1-2", "", "a=b", "'=1", " a=b", "0"]


@pytest.mark.parametrize("cell", FORMULAS)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", [*PLAIN, 5, -1.5, None])
def test_plain_numbers_and_other_text_stay(cell: object) -> None:
    assert harmless(cell) == cell


cells = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
    | st.sampled_from([*FORMULAS, *PLAIN])
    | st.integers(),
    min_size=2,
    max_size=4,
)


@given(cells)
def test_a_file_has_every_other_character_as_it_is(row: list[object]) -> None:
    out, raw = io.StringIO(newline=""), io.StringIO(newline="")
    csv_writer(out)(row)
    csv_writer(raw, raw=True)(row)
    assert next(csv.reader(io.StringIO(raw.getvalue(), newline=""))) == [str(cell) for cell in row]
    expected = [str(harmless(cell)) for cell in row]
    assert next(csv.reader(io.StringIO(out.getvalue(), newline=""))) == expected
    assert out.getvalue().endswith("\r\n")


def test_a_line_of_json_in_a_file_is_as_it_is() -> None:
    out = io.StringIO()
    json_writer(out)({"a": "\u202e\x9b="})
    assert out.getvalue() == '{"a":"\u202e\x9b="}\n'


def test_results_and_queries_write_no_formula_unless_they_are_to_be_raw(tmp_path: Path) -> None:
    lines = [
        {"custom_id": "=1+1", "prompt": "What is 2 + 3?", "max_context_tokens": 16, "@x": "-1.5"},
        {"custom_id": "-1.5", "prompt": "What is 2 + 3?", "max_context_tokens": 16},
    ]
    write_lines(tmp_path, lines)
    mh_batch(tmp_path, "run", "convos.jsonl", "-o", "run.csv", "--format", "csv",
             "--model", "demo", code=1)  # fmt: skip

    def column(text: str, name: str) -> list[str]:
        return [row[name] for row in csv.DictReader(io.StringIO(text, newline=""))]

    guarded = mh_batch(tmp_path, "results", "--format", "csv").stdout
    assert column(guarded, "custom_id") == ["'=1+1", "-1.5"]
    assert column((tmp_path / "run.csv").read_text(), "custom_id") == ["'=1+1", "-1.5"]
    raw = mh_batch(tmp_path, "results", "--format", "csv", "--raw-csv").stdout
    assert column(raw, "custom_id") == ["=1+1", "-1.5"]
    assert json.loads(column(raw, "metadata")[0]) == {"@x": "-1.5"}
    sql = "select custom_id, '+1' as n, -2.5 as f, '@' as \"=x\" from jobs order by id limit 1"
    assert mh_batch(tmp_path, "query", sql, "--csv").stdout == (
        "custom_id,n,f,'=x\n'=1+1,+1,-2.5,'@\n"
    )
    assert mh_batch(tmp_path, "query", sql, "--csv", "--raw-csv").stdout == (
        "custom_id,n,f,=x\n=1+1,+1,-2.5,@\n"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("results", "--raw-csv"), "--raw-csv: is for --format csv only"),
        (("query", "select 1", "--raw-csv"), "--raw-csv: is for --csv only"),
        (("query", "select 1", "--json", "--raw-csv"), "--raw-csv: is for --csv only"),
    ],
)
def test_raw_csv_is_for_csv(night: Path, arguments: tuple[str, ...], told: str) -> None:
    assert mh_batch(night, *arguments, code=2).stderr == f"mh-batch: {told}\n"
