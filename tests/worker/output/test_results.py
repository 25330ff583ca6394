"""The commands `results` and `query` on a database without a model: files, filters, splits."""

import csv
import json
import sqlite3
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database
from typer.testing import CliRunner, Result

from helpers.store_samples import DONE, attempt, claim, finish_next, generation, start, submit, turn
from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.errors import InputError, MhBatchError
from mh_batch.jobs.generation import FinishReason
from mh_batch.jobs.record import AttemptKey, JobEnd, JobLine
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.connection import open_store
from mh_batch.worker.cli import app
from mh_batch.worker.output.files import OutputFiles, open_output
from mh_batch.worker.output.tables import distinct

HOSTILE = 'a "quoted", text;\r\nwith\nlines\rand \x1b[31m red \u2028 ä'


def job_line(number: int, metadata: bytes | None = None, n: int = 1) -> JobLine:
    request = Request((Message("user", f"ask {number}"),), n=n)
    raw = None if metadata is None else msgspec.Raw(metadata)
    return JobLine(number, f"job-{number}", None, request, raw)


def end_next(db: Database, run_id: int, text: str, reason: str, end: JobEnd) -> None:
    """End the next job with one answer that reads `text` and ended for `reason`."""
    job = claim(db, run_id)
    made = msgspec.structs.replace(generation(text=text), finish_reason=FinishReason(reason))
    kept = msgspec.structs.replace(attempt(), generation=made)
    answer = msgspec.structs.replace(turn(), user="ask", final=text, finish_reason=reason)
    queue.record(db, job.id, run_id, kept, answer, end)


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose database has a job of every end; the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MH_BATCH_DB", raising=False)
    db = open_store(Path("mh-batch.db"))
    metadata = [b'{"topic": {"kind": "sums"}}', b'{"topic": {"kind": "tales"}}', None, None]
    submit(db, [job_line(n, raw) for n, raw in enumerate(metadata, start=1)])
    run_id = start(db)
    end_next(db, run_id, HOSTILE, "stop", DONE)
    end_next(db, run_id, "second", "stop", DONE)
    end_next(db, run_id, "cut", "length", JobEnd(Status.INCOMPLETE, "length", "ran out"))
    queue.finish(db, claim(db, run_id).id, JobEnd(Status.FAILED, "prompt_too_long", "too long"))
    db.close()
    return tmp_path


def mh_batch(*arguments: str) -> Result:
    """Run a command that has to go well."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, (arguments, done.exception, done.output)
    return done


def refused(*arguments: str) -> str:
    """Run a command that has to be refused as wrong input, and return why."""
    error = CliRunner().invoke(app, list(arguments)).exception
    assert isinstance(error, InputError), error
    return str(error)


def ids(path: str) -> list[str]:
    return [json.loads(line)["custom_id"] for line in Path(path).read_bytes().splitlines()]


@pytest.mark.usefixtures("night")
def test_csv_reads_back_as_the_view_results_has_it() -> None:
    told = mh_batch("results", "--format", "csv", "-o", "out.csv").stderr
    assert told == "4 rows in out.csv\n"
    db = sqlite3.connect("mh-batch.db")
    view = db.execute("SELECT * FROM results ORDER BY position")
    columns = [column[0] for column in view.description]
    wanted = [["" if value is None else str(value) for value in row] for row in view]
    db.close()
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [columns, *wanted]
    assert wanted[0][columns.index("final")] == HOSTILE
    assert b"\r\n" in Path("out.csv").read_bytes().splitlines(keepends=True)[0]
    assert mh_batch("results", "--format", "csv").stdout_bytes == Path("out.csv").read_bytes()


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_any_text_comes_back_from_csv(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    with ExitStack() as files:
        OutputFiles(files, raw_csv=True).write(
            str(path), dict(zip("ab", texts, strict=True)), ("a", "b")
        )
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["a", "b"], texts]


@pytest.mark.usefixtures("night")
def test_a_csv_has_the_choice_only_where_a_job_has_several() -> None:
    db = open_store(Path("mh-batch.db"))
    submit(db, [job_line(1), job_line(2, n=2)], name="several")
    run_id = start(db)
    finish_next(db, run_id)
    job = claim(db, run_id)
    for choice in (0, 1):
        key = AttemptKey(choice=choice)
        end = DONE if choice else None
        queue.record(db, job.id, run_id, attempt(key), turn(key), end)
    db.close()
    rows = list(csv.DictReader(mh_batch("results", "--format", "csv").stdout.splitlines()))
    assert [(row["custom_id"], row["choice"]) for row in rows] == [
        *(("job-1", ""), ("job-2", "0"), ("job-2", "1"))
    ]
    assert "choice" not in mh_batch("results", "1", "--format", "csv").stdout.splitlines()[0]
    (one, two) = mh_batch("results", "--status", "done").stdout.splitlines()
    assert len(json.loads(one)["response"]["body"]["choices"]) == 1
    assert len(json.loads(two)["response"]["body"]["choices"]) == 2


@pytest.mark.usefixtures("night")
def test_errors_go_to_a_file_of_their_own_and_every_job_is_in_one_of_the_two() -> None:
    told = mh_batch("results", "-o", "out.jsonl", "--errors", "errors.jsonl").stderr
    assert told == "3 lines in out.jsonl\n1 error in errors.jsonl\n"
    assert (ids("out.jsonl"), ids("errors.jsonl")) == (["job-1", "job-2", "job-3"], ["job-4"])
    arguments = ("results", "--format", "messages", "-o", "out.jsonl", "--errors", "errors.jsonl")
    mh_batch(*arguments)
    assert (ids("out.jsonl"), ids("errors.jsonl")) == (["job-1", "job-2"], ["job-3", "job-4"])
    codes = [json.loads(x)["error"]["code"] for x in Path("errors.jsonl").read_text().splitlines()]
    assert codes == ["length", "prompt_too_long"]
    mh_batch(*arguments, "--status", "incomplete,done")
    assert (ids("out.jsonl"), ids("errors.jsonl")) == (["job-1", "job-2", "job-3"], [])


@pytest.fixture
def forced(night: Path) -> Path:
    """The same folder with another batch: a rescued answer, a good one, and one of each."""
    db = open_store(Path("mh-batch.db"))
    submit(db, [job_line(1), job_line(2), job_line(3, n=2)], name="forced")
    run_id = start(db)
    for number in (1, 2):
        job = claim(db, run_id)
        answer = msgspec.structs.replace(turn(), rescued=number == 1)
        queue.record(db, job.id, run_id, attempt(), answer, DONE)
    job = claim(db, run_id)
    for choice in (0, 1):
        key = AttemptKey(choice=choice)
        answer = msgspec.structs.replace(turn(key), rescued=choice == 0)
        queue.record(db, job.id, run_id, attempt(key), answer, DONE if choice else None)
    db.close()
    return night


def conversations(*arguments: str) -> list[tuple[str, int | None]]:
    """The conversations that `results` writes: job and choice."""
    lines = map(json.loads, mh_batch("results", *arguments).stdout.splitlines())
    return [(line["custom_id"], line.get("choice")) for line in lines]


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("form", ["messages", "completion", "sharegpt"])
def test_training_formats_leave_rescued_answers_out_and_say_how_to_have_them(form: str) -> None:
    assert conversations("--format", form) == [("job-2", None), ("job-3", 1)]
    assert mh_batch("results", "--format", form).stderr == (
        "2 conversations with rescued answers left out, 1 job as a whole; "
        "--rescued keep takes them too\n"
    )
    everything = [("job-1", None), ("job-2", None), ("job-3", 0), ("job-3", 1)]
    assert conversations("--format", form, "--rescued", "keep") == everything
    assert mh_batch("results", "--format", form, "--rescued", "keep").stderr == ""
    only = conversations("--format", form, "--rescued", "only")
    assert only == [("job-1", None), ("job-3", 0)]
    done = mh_batch("results", "--format", form, "--rescued", "only")
    assert [json.loads(row)["rescued"] for row in done.stdout.splitlines()] == [True, True]
    assert done.stderr == (
        "2 conversations without rescued answers left out, 1 job as a whole; "
        "--rescued keep takes them too\n"
    )


@pytest.mark.usefixtures("forced")
def test_batch_output_and_tables_keep_rescued_answers_and_carry_it() -> None:
    rows = mh_batch("results").stdout.splitlines()
    assert [json.loads(row)["mh_batch"]["rescued"] for row in rows] == [True, False, True]
    table = mh_batch("results", "--format", "csv").stdout.splitlines()
    assert [row["rescued"] for row in csv.DictReader(table)] == ["1", "0", "1", "0"]
    dropped = mh_batch("results", "--rescued", "drop")
    found = [json.loads(row)["response"]["body"]["choices"] for row in dropped.stdout.splitlines()]
    assert [[choice["index"] for choice in choices] for choices in found] == [[0], [1]]
    assert "2 conversations with rescued answers left out" in dropped.stderr
    only = mh_batch("results", "--rescued", "only", "--format", "csv").stdout.splitlines()
    assert [(row["custom_id"], row["choice"]) for row in csv.DictReader(only)] == [
        *(("job-1", ""), ("job-3", "0"))
    ]


@pytest.mark.usefixtures("forced")
def test_with_a_file_for_errors_no_job_is_lost_for_its_rescued_answers() -> None:
    mh_batch("results", "--format", "messages", "-o", "out.jsonl", "--errors", "errors.jsonl")
    assert (ids("out.jsonl"), ids("errors.jsonl")) == (["job-2", "job-3"], ["job-1"])
    error = json.loads(Path("errors.jsonl").read_text())["error"]
    assert error["code"] == "rescued"
    assert "--rescued keep" in error["message"]


@pytest.mark.usefixtures("night")
def test_a_job_without_an_answer_counts_as_left_out_where_only_rescued_ones_are_wanted() -> None:
    told = mh_batch("results", "-o", "out.jsonl", "--rescued", "only").stderr
    assert told == (
        "0 lines in out.jsonl\n"
        "4 conversations without rescued answers left out, 4 jobs as a whole; "
        "--rescued keep takes them too\n"
    )


@pytest.mark.usefixtures("night")
def test_jobs_without_an_answer_are_no_rescued_ones() -> None:
    mh_batch("results", "-o", "out.jsonl", "--rescued", "drop")
    assert ids("out.jsonl") == ["job-1", "job-2", "job-3", "job-4"]
    assert mh_batch("results", "--rescued", "only").stdout == ""


@pytest.mark.usefixtures("night")
def test_without_a_file_for_errors_they_stand_between_the_others() -> None:
    mh_batch("results", "-o", "out.jsonl")
    assert ids("out.jsonl") == ["job-1", "job-2", "job-3", "job-4"]


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--finish-reason", "length"], ["job-3"]),
        (["--finish-reason", "stop,length"], ["job-1", "job-2", "job-3"]),
        (["--where", "topic.kind=sums"], ["job-1"]),
        (["--where", "topic.kind=sums", "--where", "topic.kind=tales"], []),
        (["--where", "topic.kind=sums", "--finish-reason", "length"], []),
        (["--status", "done", "--finish-reason", "stop", "--where", "topic.kind=tales"], ["job-2"]),
    ],
    ids=" ".join,
)
def test_filters_all_have_to_agree(filters: list[str], found: list[str]) -> None:
    mh_batch("results", "-o", "out.jsonl", *filters)
    assert ids("out.jsonl") == found


@pytest.mark.usefixtures("night")
def test_answers_are_filtered_and_errors_stay_errors() -> None:
    mh_batch("results", "-o", "out", "--errors", "errors", "--finish-reason", "stop")
    assert (ids("out"), ids("errors")) == (["job-1", "job-2"], ["job-4"])


@pytest.mark.usefixtures("night")
def test_a_split_has_each_conversation_in_one_file_and_names_the_part_that_is_empty() -> None:
    Path("data").mkdir()
    Path("data/test.jsonl").write_text("of a former night")
    split = "train=0.98,valid=0.01,test=0.01"
    arguments = ("results", "--format", "messages", "--split", split, "-o", "data")
    told = mh_batch(*arguments).stderr.splitlines()
    assert told[0] == "2 lines in data/train.jsonl"
    assert told[1].startswith("data/valid.jsonl: no conversation fell into this part")
    # an empty file is what mlx-lm fails on, and one of a former night is in no split of this one
    assert [path.name for path in Path("data").iterdir()] == ["train.jsonl"]
    mh_batch(*arguments, "--seed", "5", "--errors", "data/errors.jsonl")
    assert ids("data/errors.jsonl") == ["job-3", "job-4"]


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "xml"], "must be one of openai, messages, completion, sharegpt, csv"),
        (["--split", "train=1"], "needs -o FOLDER; - is not a folder"),
        (
            ["--split", "train=1", "-o", "mh-batch.db"],
            "needs -o FOLDER; mh-batch.db is not a folder",
        ),
        (["--split", "train=1", "-o", "no/data"], "there is no folder"),
        (["--seed", "1"], "--seed: is for --split only"),
        (["-o", "a", "--errors", "./a"], "the results go there"),
        (["-o", "a", "--errors", "mh-batch.db-wal"], "would overwrite"),
        (["-o", "no/a"], "there is no folder"),
        (["--rescued", "off"], "--rescued off: must be one of keep, drop, only"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_touched(
    night: Path, arguments: list[str], message: str
) -> None:
    before = sorted(path.name for path in night.iterdir())
    assert message in refused("results", *arguments)
    assert sorted(path.name for path in night.iterdir()) == before


@pytest.mark.usefixtures("night")
def test_an_export_that_fails_leaves_the_former_files_and_no_other(night: Path) -> None:
    (night / "out").write_text("old")
    (night / "errors").write_text("old")
    db = sqlite3.connect("mh-batch.db")
    db.execute("UPDATE parses SET problems = '{}' WHERE id = (SELECT max(id) FROM parses)")
    db.commit()
    db.close()
    before = {path.name for path in night.iterdir()}
    done = CliRunner().invoke(app, ["results", "-o", "out", "--errors", "errors"])
    assert isinstance(done.exception, msgspec.DecodeError)
    assert {path.name for path in night.iterdir()} - {"mh-batch.db-wal", "mh-batch.db-shm"} == (
        before - {"mh-batch.db-wal", "mh-batch.db-shm"}
    )
    assert ((night / "out").read_text(), (night / "errors").read_text()) == ("old", "old")


def test_a_file_beside_the_output_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out.partial").write_text("mine")
    with open_output(str(tmp_path / "out")) as out:
        out.write("theirs")
    assert (tmp_path / "out.partial").read_text() == "mine"
    assert (tmp_path / "out").read_text() == "theirs"


def test_a_full_disk_is_an_error_of_the_environment() -> None:
    with (
        pytest.raises(MhBatchError, match="/dev/full: No space left"),
        open_output("/dev/full") as out,
    ):
        out.write("x" * 100_000)


@pytest.mark.parametrize(
    ("columns", "keys"),
    [
        (["a", "b"], ["a", "b"]),
        (["count(*)", "count(*)"], ["count(*)", "count(*):2"]),
        (["a", "a", "a"], ["a", "a:2", "a:3"]),
        (["a", "a", "a:2"], ["a", "a:3", "a:2"]),
        (["a:2", "a", "a", "a:2"], ["a:2", "a", "a:3", "a:2:2"]),
    ],
)
def test_columns_of_one_name_get_keys_of_their_own(columns: list[str], keys: list[str]) -> None:
    assert distinct(columns) == keys


@pytest.mark.usefixtures("night")
def test_a_query_loses_no_column_and_writes_a_blob_in_hex() -> None:
    done = mh_batch("query", "--json", "select count(*), count(*), max(id) from jobs")
    assert json.loads(done.stdout) == {"count(*)": 4, "count(*):2": 4, "max(id)": 4}
    sql = "select x'00ff', 'a' || char(10) || '\"' as text, null"
    assert mh_batch("query", "--csv", sql).stdout_bytes.endswith(b'00ff,"a\n""",\r\n')
    assert json.loads(mh_batch("query", "--json", sql).stdout)["x'00ff'"] == "00ff"
    assert "00ff" in mh_batch("query", sql).stdout
