"""Answers longer than `max_tokens`: what is generated for what is kept, and how each ends.

A full drain with the tokens scripted and everything else real. The model says the same every time,
whatever it is told: what helps is to go on. `pytest -s` prints the table.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO, StringIO
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from sqlite_utils import Database

from helpers.overrun import PLACES, answer, encode
from helpers.paths import HELPERS
from mh_batch.jobs.generation import unpack_tokens
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import Settings, apply
from mh_batch.store.connection import open_store
from mh_batch.worker.commands.reparse import reparse_batch
from mh_batch.worker.draining.run import work
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.progress.plain_display import PlainDisplay
from mh_batch.worker.submission.submission import submit_stream

MAX_TOKENS = 100
OVERRUNS = (10, 25, 50, 75, 100, 150, 200)
TOOL = {"type": "function", "function": {"name": "f"}}
ANSWERS = {
    f"{place} {overrun}": answer(place, MAX_TOKENS, MAX_TOKENS + overrun)
    for place in PLACES
    for overrun in OVERRUNS
}
TABLE = """
SELECT j.status, t.rescued, count(*) AS attempts, sum(a.continues) AS continued,
    sum(a.completion_tokens) AS generated, kept.opening, kept.tokens
FROM jobs AS j JOIN attempts AS a ON a.job_id = j.id JOIN turns AS t ON t.job_id = j.id
JOIN attempts AS kept ON kept.id = t.accepted_attempt_id
WHERE j.custom_id = ?
"""


class Outcome(NamedTuple):
    """How an answer ended, after how many attempts, and what all of them generated."""

    status: str
    attempts: int
    continued: int
    generated: int
    rescued: bool = False


CUT_FOR_GOOD = Outcome("incomplete", 6, 3, 150 + 188 + 234)
EXPECTED = {
    10: Outcome("done", 2, 1, 110),
    25: Outcome("done", 2, 1, 125),
    50: Outcome("done", 2, 1, 150),
    75: Outcome("done", 4, 2, 150 + 175),
    100: Outcome("done", 6, 3, 150 + 188 + 200),
    150: CUT_FOR_GOOD,
    200: CUT_FOR_GOOD,
}
"""By overrun in percent; an attempt with what goes on from it has 150 tokens, then 188, 234."""

RESCUED = Outcome("done", 5, 2, 150 + 188 + len(encode("good<|return|>")), rescued=True)
"""Where the second time, too, it never came out of its analysis."""


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The database after a drain of all answers."""
    folder = tmp_path_factory.mktemp("overrun")
    path = folder / "mh-batch.db"
    child = str(HELPERS / "token_child.py")
    lines = (
        {"custom_id": name, "prompt": f"stop_token stubborn\n{made.text}", "tools": [TOOL]}
        for name, made in ANSWERS.items()
    )
    settings = apply(Settings(), {"max_tokens": MAX_TOKENS})
    with closing(open_store(path)) as store:
        stream = BytesIO("\n".join(map(json.dumps, lines)).encode())
        submit_stream(store, stream, NewBatch("b", "b", settings))

    async def drain() -> None:
        with anyio.fail_after(120):
            options = DrainOptions(path, "demo", folder / "logs")
            await work(
                options, PlainDisplay(StringIO()), (sys.executable, child, str(folder / "s"))
            )

    anyio.run(drain)
    with closing(Database(path)) as found:
        yield found


def row(db: Database, name: str) -> tuple[Outcome, tuple[int, ...], tuple[int, ...]]:
    """How an answer ended, and the kept attempt's opening and tokens."""
    (found,) = db.query(TABLE, [name])
    outcome = Outcome(
        found["status"],
        found["attempts"],
        found["continued"],
        found["generated"],
        bool(found["rescued"]),
    )
    return outcome, unpack_tokens(found["opening"]), unpack_tokens(found["tokens"])


@pytest.mark.parametrize("overrun", OVERRUNS)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_generated_and_how_it_ends_follows_from_how_far_an_answer_overruns(
    db: Database, place: str, overrun: int
) -> None:
    rescued = place == "analysis" and overrun >= 100
    outcome, opening, tokens = row(db, f"{place} {overrun}")
    assert outcome == (RESCUED if rescued else EXPECTED[overrun])
    whole = ANSWERS[f"{place} {overrun}"].tokens
    if rescued:
        # all that was thought in both parts, and the answer that it was made to give
        assert opening[:188] == whole[:188]
    else:
        assert opening + tokens == whole[: 234 if outcome.status == "incomplete" else len(whole)]


@pytest.mark.parametrize("overrun", [10, 25, 50])
@pytest.mark.parametrize("place", PLACES)
def test_what_half_as_much_is_enough_for_costs_no_token_twice(
    db: Database, place: str, overrun: int
) -> None:
    outcome, opening, tokens = row(db, f"{place} {overrun}")
    assert outcome.generated == len(opening) + len(tokens)
    assert len(opening) == MAX_TOKENS
    sql = "SELECT tokens FROM results WHERE custom_id = ?"
    assert next(db.query(sql, [f"{place} {overrun}"]))["tokens"] == outcome.generated


def test_both_parts_are_read_again_as_one(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    db.conn.execute("VACUUM INTO ?", [str(path)])
    with closing(open_store(path)) as old:
        answers = "SELECT final, analysis, finish_reason FROM turns ORDER BY job_id"
        today = list(old.query(answers))
        old.execute("UPDATE parses SET parser_version = 0, problems = '[\"old\"]'")
        old.execute("UPDATE channels SET text = 'old'")
        old.execute("UPDATE turns SET final = 'old', analysis = NULL")
        found = reparse_batch(old, 1)
        assert found.different == found.attempts
        assert list(old.query(answers)) == today


def test_no_answer_costs_three_times_what_is_kept_of_it(db: Database) -> None:
    columns = ("cut in", "over", "attempts", "generated", "kept", "ratio", "ended")
    print("\n" + "".join(f"{column:>11}" for column in columns))
    for name in ANSWERS:
        outcome, opening, tokens = row(db, name)
        kept = len(opening) + len(tokens)
        ratio, ended = outcome.generated / kept, f"{outcome.status}{', rescued' * outcome.rescued}"
        cells = (*name.split(), outcome.attempts, outcome.generated, kept, f"{ratio:.2f}", ended)
        print("".join(f"{cell:>11}" for cell in cells))
        assert ratio < 3
