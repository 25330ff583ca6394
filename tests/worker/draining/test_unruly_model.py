"""What a model mangles is tried again or mended, and the database says which.

A full drain, with the tokens of each answer scripted and everything else real.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO, StringIO
from pathlib import Path

import anyio
import pytest
from sqlite_utils import Database

from helpers.paths import HELPERS
from mh_batch.engine.harmony.vocabulary import harmony_encoding
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.generation import pack_tokens
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import Settings
from mh_batch.jobs.status import Status
from mh_batch.store.connection import open_store
from mh_batch.store.reports.results import finished_jobs
from mh_batch.worker.commands.reparse import message, reparse_batch
from mh_batch.worker.draining.run import work
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.progress.plain_display import PlainDisplay
from mh_batch.worker.submission.submission import submit_stream

THOUGHT = "<|channel|>analysis<|message|>thought<|end|><|start|>assistant"
TOOL = {"type": "function", "function": {"name": "f"}}
FINAL = f"{THOUGHT}<|channel|>final<|message|>"
SWALLOWED = (
    "<|channel|>analysis<|channel|>hm<|end|>"
    "<|start|>assistant<|channel|>final<|message|>x<|return|>"
)

# what openai-harmony reads without complaint, also in strict mode
TRIED_AGAIN = {
    "a recipient of junk": "<|channel|>analysis foo bar<|message|>x<|end|>"
    "<|start|>assistant to=nobody<|channel|>commentary json<|message|>{}<|call|>",
    "a message of the user's": f"{THOUGHT}<|channel|>commentary<|message|>so<|end|>"
    "<|start|>user<|message|>And now?<|end|>"
    "<|start|>assistant<|channel|>final<|message|>x<|return|>",
    "a control token in a text": f"{FINAL}half<|constrain|>other half<|return|>",
    "a control token that openai-harmony spells into a text": SWALLOWED,
    "two finals": f"{FINAL}one<|end|><|start|>assistant<|channel|>final<|message|>two<|return|>",
    "an unknown channel": f"{THOUGHT}<|channel|>reflection<|message|>x<|return|>",
    "arguments that are no JSON": f"{THOUGHT} to=functions.f<|channel|>commentary "
    "<|constrain|>json<|message|>{'a': 1}<|call|>",
    "no answer at all": "<|channel|>analysis<|message|>thought<|return|>",
    "an empty answer": f"{FINAL}  <|return|>",
}
CUT = {
    "a text cut off": f"{FINAL}The river is",
    "a header cut off": f"{THOUGHT}<|channel|>fin",
}
MENDED = {
    "a channel run together with the recipient": (
        f"{THOUGHT}<|channel|>commentaryto=functions.f <|constrain|>json<|message|>"
        '{"a": 1}<|call|>',
        ("commentary", "functions.f", '{"a": 1}'),
    ),
    "junk in a header": (
        f"{THOUGHT}<|channel|>final well<|message|>The answer.<|return|>",
        ("final", None, "The answer."),
    ),
    "a call on the analysis channel": (
        f'{THOUGHT} to=functions.f<|channel|>analysis code<|message|>{{"a": 1}}<|call|>',
        ("commentary", "functions.f", '{"a": 1}'),
    ),
}

Drained = dict[str, list[dict[str, object]]]
"""The attempts of each job, by the name of its case."""


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The database after a drain of all cases."""
    folder = tmp_path_factory.mktemp("unruly")
    path = folder / "mh-batch.db"
    scripts = {
        **{name: f"stop_token\n{text}" for name, text in TRIED_AGAIN.items()},
        **{name: f"max_tokens\n{text}" for name, text in CUT.items()},
        **{name: f"stop_token\n{text}" for name, (text, _) in MENDED.items()},
    }
    lines = (
        json.dumps({"custom_id": name, "prompt": text, "tools": [TOOL]})
        for name, text in scripts.items()
    )
    with closing(open_store(path)) as store:
        submit_stream(store, BytesIO("\n".join(lines).encode()), NewBatch("b", "b", Settings()))
    child = HELPERS / "token_child.py"

    async def drain() -> None:
        with anyio.fail_after(120):
            options = DrainOptions(path, "demo", folder / "logs")
            command = (sys.executable, str(child), str(folder / "script.json"))
            await work(options, PlainDisplay(StringIO()), command)

    anyio.run(drain)
    with closing(Database(path)) as store:
        yield store


def attempts(db: Database, name: str) -> list[dict[str, object]]:
    """The attempts of a job with the parse of each."""
    return list(
        db.query(
            """
            SELECT a.*, p.rung, p.well_formed, p.problems FROM attempts AS a
            JOIN jobs AS j ON j.id = a.job_id
            JOIN parses AS p ON p.attempt_id = a.id AND p.current = 1
            WHERE j.custom_id = ? ORDER BY a.attempt
            """,
            [name],
        )
    )


@pytest.mark.parametrize("name", TRIED_AGAIN)
def test_what_reads_wrong_is_tried_again(db: Database, name: str) -> None:
    first, second = attempts(db, name)
    assert (first["verdict"], first["well_formed"]) == ("retry", 0)
    assert first["retry_reason"] in ("malformed", "bad_call", "empty_final")
    assert json.loads(str(first["problems"]))
    assert (second["verdict"], second["well_formed"]) == ("accept", 1)
    (result,) = db.query("SELECT status, final FROM results WHERE custom_id = ?", [name])
    assert result == {"status": "done", "final": "good"}


@pytest.mark.parametrize("name", CUT)
def test_what_was_cut_off_for_good_is_tried_again_with_more_room(db: Database, name: str) -> None:
    found = attempts(db, name)
    verdicts = [(a["verdict"], a["retry_reason"], a["continues"]) for a in found]
    assert verdicts == [("retry", "length", 0), ("retry", "length", 1), ("accept", None, 0)]
    budgets = [json.loads(str(a["sampling"]))["max_tokens"] for a in found]
    assert budgets == [4096, 2048, 5120]


@pytest.mark.parametrize("name", MENDED)
def test_what_can_be_read_without_doubt_is_mended(db: Database, name: str) -> None:
    (only,) = attempts(db, name)
    assert (only["verdict"], only["rung"], only["well_formed"]) == ("accept", "tolerant", 1)
    rows = list(
        db.query(
            "SELECT channel, recipient, text FROM channels WHERE attempt_id = ? ORDER BY position",
            [only["id"]],
        )
    )
    assert tuple(rows[-1].values()) == MENDED[name][1]
    assert (rows[0]["channel"], rows[0]["text"]) == ("analysis", "thought")


def readings(db: Database) -> list[tuple[object, ...]]:
    """How every attempt reads at present."""
    sql = """
        SELECT p.attempt_id, p.parser_version, p.rung, p.problems, c.channel, c.recipient, c.text
        FROM parses AS p LEFT JOIN channels AS c ON c.parse_id = p.id
        WHERE p.current ORDER BY 1, c.position
    """
    return [tuple(row.values()) for row in db.query(sql)]


def test_an_old_batch_is_parsed_again_as_if_it_were_new(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    db.conn.execute("VACUUM INTO ?", [str(path)])
    today = readings(db)
    with closing(open_store(path)) as old:
        old.execute("UPDATE parses SET parser_version = 0, rung = 'raw', problems = '[\"old\"]'")
        old.execute("UPDATE parses SET well_formed = 0")
        old.execute("UPDATE channels SET channel = 'final', recipient = NULL, text = 'old'")
        old.execute("UPDATE turns SET final = 'old', analysis = NULL")
        found = reparse_batch(old, 1)
        assert readings(old) == today
        answers = "SELECT final, analysis, finish_reason FROM turns ORDER BY job_id"
        assert list(old.query(answers)) == list(db.query(answers))
        counts = "SELECT count(*) AS n FROM parses WHERE NOT current"
        assert next(old.query(counts))["n"] == found.different == found.attempts
        assert reparse_batch(old, 1).added == 0
        assert "differently" in message(found)


def test_an_answer_that_an_older_version_took_for_good_stays_and_says_what_is_wrong_with_it(
    db: Database, tmp_path: Path
) -> None:
    path = tmp_path / "older.db"
    db.conn.execute("VACUUM INTO ?", [str(path)])
    (kept,) = attempts(db, "junk in a header")
    tokens = harmony_encoding().encode(SWALLOWED, allowed_special="all")
    with closing(open_store(path)) as old:
        old.execute(
            "UPDATE attempts SET tokens = ?, completion_tokens = ?, raw = ? WHERE id = ?",
            (pack_tokens(tokens), len(tokens), SWALLOWED, kept["id"]),
        )
        old.execute("UPDATE parses SET parser_version = 2 WHERE attempt_id = ?", [kept["id"]])
        found = reparse_batch(old, 1)
        assert (found.different, found.broken, found.answers) == (1, 1, 0)
        (job,) = [j for j in finished_jobs(old, 1, [Status.DONE]) if j.final == "The answer."]
        assert job.turns[0].parse.problems == ("control_in_content",)


def test_an_adapter_that_was_not_noted_is_not_guessed(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "older.db"
    db.conn.execute("VACUUM INTO ?", [str(path)])
    with closing(open_store(path)) as old:
        old.execute("UPDATE batch_models SET adapter = NULL")
        with pytest.raises(InputError, match="did not store the adapter of demo"):
            reparse_batch(old, 1)


def test_after_such_a_drain_every_attempt_has_its_channels_and_times(db: Database) -> None:
    counts = [
        next(iter(next(iter(db.query(sql))).values()))
        for sql in (
            "SELECT count(*) FROM attempts",
            "SELECT count(*) FROM timings",
            "SELECT count(DISTINCT attempt_id) FROM parses WHERE current",
        )
    ]
    assert len(set(counts)) == 1
    assert list(db.query("PRAGMA foreign_key_check")) == []
