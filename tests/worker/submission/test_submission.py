"""A file lands whole or not at all; a file that landed is known again."""

import base64
import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlite_utils import Database

from helpers.command_line import MAIN
from mh_batch.jobs.errors import (
    AlreadySubmitted,
    BadLine,
    BadLines,
    EnvironmentFault,
    InputError,
    Interrupted,
    SettingsError,
)
from mh_batch.jobs.generation import ModelInfo
from mh_batch.jobs.jsonl.line_settings import BUILT_IN
from mh_batch.jobs.jsonl.lines import LineReader
from mh_batch.jobs.models.names import join_name
from mh_batch.jobs.record import JobEnd, JobLine, NewBatch
from mh_batch.jobs.settings import Settings, apply
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.connection import open_store
from mh_batch.store.queue.loading_rows import EncodedLine
from mh_batch.store.queue.submit import CHUNK_ROWS, Submission
from mh_batch.store.reports.results import finished_jobs
from mh_batch.worker.submission import source
from mh_batch.worker.submission.source import batch_name, chunks
from mh_batch.worker.submission.submission import (
    Rules,
    Submitted,
    submit_stream,
)
from mh_batch.worker.submission.tables.source import open_source

GOOD = b'{"custom_id": "a", "prompt": "x"}\n{"custom_id": "b", "prompt": "y"}\n'
MIXED = (
    b'{"custom_id": "a", "prompt": "x"}\r\n{"prompt": 1}\n{"custom_id": "a", "prompt": "y"}\n\xff\n'
)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = open_store(tmp_path / "mh-batch.db")
    yield database
    database.close()


def batch_of(source: Path | str, **changes: object) -> NewBatch:
    settings = apply(Settings(), changes.pop("settings", {}))  # type: ignore[arg-type]
    return NewBatch("night", str(source), settings, **changes)  # type: ignore[arg-type]


def submit(
    db: Database, path: Path, content: bytes, rules: Rules | None = None, **changes: Any
) -> Submitted:
    path.write_bytes(content)
    with open_source(str(path)) as stream:
        return submit_stream(db, stream, batch_of(path, **changes), rules or Rules())


def counts(db: Database) -> tuple[int, int]:
    return db["batches"].count, db["jobs"].count


def test_a_bad_line_in_the_middle_of_a_file_lands_nothing_of_it(
    db: Database, tmp_path: Path
) -> None:
    with pytest.raises(BadLines) as caught:
        submit(db, tmp_path / "in.jsonl", MIXED)
    assert [line.number for line in caught.value.lines] == [2, 3, 4]
    assert counts(db) == (0, 0)


def test_a_line_whose_settings_clash_with_those_of_the_batch_lands_nothing(
    db: Database, tmp_path: Path
) -> None:
    lines = b'{"prompt": "x"}\n{"prompt": "y", "max_kv_size": 64}\n'
    with pytest.raises(BadLines) as caught:
        submit(db, tmp_path / "in.jsonl", lines, settings={"kv_keep": 64})
    reasons = [(line.number, line.reason) for line in caught.value.lines]
    assert reasons == [(2, "max_kv_size: must be above kv_keep (64), got 64")]
    assert counts(db) == (0, 0)
    assert submit(db, tmp_path / "in.jsonl", lines).jobs == 2


def test_rules_that_cannot_be_kept_are_refused_with_line_and_field(
    db: Database, tmp_path: Path
) -> None:
    rules: list[dict[str, Any]] = [
        {"regex": "("},
        {"json_schema": {"type": "strin"}},
        {"json_schema": {"$ref": "http://example.org/a.json"}},
        {"min_chars": 2, "max_chars": 1},
        {"regex": "x", "json_schema": {"type": "string"}},
    ]
    lines = [json.dumps({"prompt": "x", "accept": accept}).encode() for accept in rules]
    body = {"body": {"messages": [{"role": "user", "content": "x"}], "accept": {"regex": "["}}}
    content = b"\n".join([*lines, json.dumps({"custom_id": "b", **body}).encode()])
    with pytest.raises(BadLines) as caught:
        submit(db, tmp_path / "in.jsonl", content)
    reasons = {line.number: line.reason for line in caught.value.lines}
    assert reasons.keys() == {1, 2, 3, 4, 6}
    assert reasons[1].startswith("accept: regex: not a regular expression: missing )")
    assert reasons[2].startswith("accept: json_schema: not a JSON schema: 'strin' is not valid")
    assert "nothing is downloaded" in reasons[3]
    assert reasons[4].startswith("accept: min_chars 2 is above max_chars 1")
    assert reasons[6].startswith("body.accept: regex: not a regular expression")
    with pytest.raises(SettingsError, match=r"accept: json_schema: .*\(at \$\.type\)"):
        submit(db, tmp_path / "in.jsonl", GOOD, settings={"accept": rules[1]})
    assert counts(db) == (0, 0)


def test_skipped_lines_are_beside_the_file_with_reason_and_text(
    db: Database, tmp_path: Path
) -> None:
    landed = submit(db, tmp_path / "in.jsonl", MIXED, Rules(skip_bad=True))
    assert (landed.jobs, landed.rejected) == (1, 3)
    assert landed.rejects == tmp_path / "in.jsonl.rejected.jsonl"
    rejects = [json.loads(line) for line in landed.rejects.read_bytes().splitlines()]
    assert rejects == [
        {"line": 2, "reason": "prompt: Expected `str`, got `int`", "text": '{"prompt": 1}'},
        {
            "line": 3,
            "reason": "custom_id: 'a' is already that of line 1",
            "text": '{"custom_id": "a", "prompt": "y"}',
        },
        {
            "line": 4,
            "reason": "not UTF-8: byte 0xff at column 1",
            "base64": base64.b64encode(b"\xff").decode(),
        },
    ]
    assert sorted(path.name for path in tmp_path.glob("in.*")) == [
        "in.jsonl",
        "in.jsonl.rejected.jsonl",
    ]


def test_without_a_bad_line_there_is_no_file_of_them(db: Database, tmp_path: Path) -> None:
    landed = submit(db, tmp_path / "in.jsonl", GOOD, Rules(skip_bad=True))
    assert (landed.jobs, landed.rejected, landed.rejects) == (2, 0, None)
    assert [path.name for path in tmp_path.glob("in.*")] == ["in.jsonl"]


def test_a_file_of_bad_lines_only_is_refused_also_with_skip_bad(
    db: Database, tmp_path: Path
) -> None:
    with pytest.raises(BadLines):
        submit(db, tmp_path / "in.jsonl", b"{}\n[]\n", Rules(skip_bad=True))
    assert counts(db) == (0, 0)
    assert [path.name for path in tmp_path.glob("in.*")] == ["in.jsonl"]


def test_a_folder_that_does_not_take_the_rejects_lands_nothing(
    db: Database, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl.rejected.jsonl").mkdir()
    with pytest.raises(EnvironmentFault, match=r"rejected\.jsonl: "):
        submit(db, tmp_path / "in.jsonl", MIXED, Rules(skip_bad=True))
    assert counts(db) == (0, 0)


def test_the_same_bytes_are_refused_under_any_name_and_with_any_settings(
    db: Database, tmp_path: Path
) -> None:
    submit(db, tmp_path / "in.jsonl", GOOD)
    with pytest.raises(AlreadySubmitted, match=r"already submitted as batch 1 \(night\).*--again"):
        submit(db, tmp_path / "in.jsonl", GOOD)
    with pytest.raises(
        AlreadySubmitted, match=r"other settings .temperature 1.0, now 0.5.*--again"
    ):
        submit(db, tmp_path / "other.jsonl", GOOD, settings={"temperature": 0.5})
    with pytest.raises(AlreadySubmitted):
        submit_stream(db, Unseekable(GOOD), batch_of("-"))
    assert counts(db) == (1, 2)
    submit(db, tmp_path / "in.jsonl", GOOD, Rules(again=True))
    assert counts(db) == (2, 4)


class Unseekable(io.BytesIO):
    """Standard input, for one."""

    def seekable(self) -> bool:
        return False


def test_other_bytes_are_another_file(db: Database, tmp_path: Path) -> None:
    submit(db, tmp_path / "in.jsonl", GOOD)
    submit(db, tmp_path / "in.jsonl", GOOD + b"\n")
    assert counts(db) == (2, 4)


def test_one_goes_on_with_the_latest_batch_of_equal_settings(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    submit(db, path, GOOD, model="demo")
    submit(db, path, GOOD, Rules(again=True), settings={"seed": 3})
    submit(db, path, GOOD, Rules(again=True), settings={"seed": 4})

    def known(**changes: Any) -> int | None:
        with pytest.raises(AlreadySubmitted) as caught:
            submit(db, path, GOOD, **changes)
        return caught.value.same_batch

    assert known() == 1
    assert known(model="demo", priority=3, order="prefix") == 1
    assert known(settings={"seed": 3}, model="any") == 2
    with pytest.raises(AlreadySubmitted, match="seed 4, now 5"):
        submit(db, path, GOOD, settings={"seed": 5})
    assert known(settings={"seed": 5}) is None
    assert known(model="other") is None


FOREIGN = (
    b'{"prompt": "a", "model": "gpt-4o-mini"}\n{"prompt": "b", "model": "demo"}\n'
    b'{"prompt": "c", "model": "some/hub-name"}\n{"prompt": "d"}\n'
    b'{"prompt": "e", "model": "gpt-4o-mini"}\n'
)


def test_lines_that_name_a_model_that_is_none_here_are_told(db: Database, tmp_path: Path) -> None:
    landed = submit(db, tmp_path / "in.jsonl", FOREIGN, model="demo")
    assert landed.warning is not None
    assert landed.warning.startswith("2 lines name a model that was not found: gpt-4o-mini; cancel")
    assert "--again --override-model --model demo" in landed.warning
    assert submit(db, tmp_path / "other.jsonl", GOOD).warning is None


def test_of_many_such_models_the_first_are_named(db: Database, tmp_path: Path) -> None:
    lines = b"".join(b'{"prompt": "a", "model": "none-%d"}\n' % n for n in range(9))
    told = submit(db, tmp_path / "in.jsonl", lines).warning
    assert told is not None
    assert "none-0, none-1, none-2, none-3, none-4 and others;" in told


def test_the_models_of_lines_can_be_overridden(db: Database, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"model": "demo", "override_model": True}
    landed = submit(db, tmp_path / "in.jsonl", FOREIGN, **changes)
    assert landed.warning is None
    assert tuple(db.execute("SELECT count(*), count(model) FROM jobs").fetchone()) == (5, 0)
    with pytest.raises(AlreadySubmitted) as caught:
        submit(db, tmp_path / "in.jsonl", FOREIGN, **changes)
    assert caught.value.same_batch == landed.batch_id
    with pytest.raises(InputError, match="name the model"):
        submit(db, tmp_path / "in.jsonl", FOREIGN, override_model=True)


def test_a_batch_with_models_of_lines_is_not_gone_on_with_where_they_are_overridden(
    db: Database, tmp_path: Path
) -> None:
    submit(db, tmp_path / "in.jsonl", FOREIGN, model="demo")
    changes: dict[str, Any] = {"model": "demo", "override_model": True}
    with pytest.raises(
        AlreadySubmitted, match="models that lines name, now demo for all"
    ) as caught:
        submit(db, tmp_path / "in.jsonl", FOREIGN, **changes)
    assert caught.value.same_batch is None


@pytest.fixture(params=["heard", "ignored"])
def interrupts(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whether this process was started to ignore Ctrl-C."""
    ignored = request.param == "ignored"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    yield request.param
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("interrupts", ["heard"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("interrupts")
def test_a_signal_lands_nothing_and_gives_the_handlers_back(
    number: signal.Signals, db: Database
) -> None:
    before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    stream = io.BytesIO(GOOD)
    with pytest.raises(Interrupted, match="stopped; nothing of it was queued"):
        submit_stream(
            db, stream, batch_of("in.jsonl"), progress=lambda *_: signal.raise_signal(number)
        )
    assert counts(db) == (0, 0)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_while_the_batch_becomes_visible_waits_until_it_is(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Submission.publish

    def interrupted(self: Submission, sha256: str, *, only_new: bool = False) -> int:
        signal.raise_signal(signal.SIGTERM)
        return publish(self, sha256, only_new=only_new)

    monkeypatch.setattr(Submission, "publish", interrupted)
    with pytest.raises(Interrupted, match="stopped; batch 1 was queued"):
        submit_stream(db, io.BytesIO(GOOD), batch_of("in.jsonl"))
    assert counts(db) == (1, 2)
    assert [row["state"] for row in db["batches"].rows] == ["ready"]


def test_an_interrupt_while_the_batch_becomes_visible_is_told_unless_it_is_ignored(
    interrupts: str, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Submission.publish

    def interrupted(self: Submission, sha256: str, *, only_new: bool = False) -> int:
        signal.raise_signal(signal.SIGINT)
        return publish(self, sha256, only_new=only_new)

    monkeypatch.setattr(Submission, "publish", interrupted)
    told = pytest.raises(Interrupted, match="batch 1 was queued")
    with nullcontext() if interrupts == "ignored" else told:
        submit_stream(db, io.BytesIO(GOOD), batch_of("in.jsonl"))
    assert counts(db) == (1, 2)


def test_lines_come_in_portions_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "CHUNK_ROWS", 3)
    monkeypatch.setattr(source, "CHUNK_BYTES", 1000)
    line = b'{"prompt": "%s"}\n'
    content = b"".join(line % (b"x" * n) for n in (1, 1, 1, 1, 2000, 1, 1)) + b"\n{}"
    for kept in (True, False):
        found = list(chunks(LineReader(io.BytesIO(content), "in"), encoded, keep_raw=kept))
        assert [len(chunk.raw) for chunk in found] == [3, 2, 3]
        raw = [line for chunk in found for line in chunk.raw.values()]
        lines = [line for line in content.splitlines(keepends=True) if line != b"\n"]
        assert raw == (lines if kept else [None] * len(lines))


def encoded(line: JobLine) -> EncodedLine:
    return EncodedLine(line.number, line.custom_id, None, 0, None, b"{}")


LONG = b'{"prompt": "' + b"x" * (2 << 20) + b'"}\n'


def test_a_line_beyond_the_limit_is_refused_and_the_others_are_read() -> None:
    lines = LineReader(io.BytesIO(b'{"prompt": "x"}\n' + LONG + GOOD), "in", BUILT_IN, 1 << 20)
    first, second, *others = lines
    assert isinstance(first, JobLine)
    assert second == BadLine(2, "longer than 1 MiB; --max-line-mib takes longer ones")
    assert [line.number for line in others] == [3, 4]
    assert lines.sha256 == hashlib.sha256(b'{"prompt": "x"}\n' + LONG + GOOD).hexdigest()
    assert lines.bytes_read == 16 + len(LONG) + len(GOOD)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_as_long_as_the_limit_is_read(end: bytes) -> None:
    line = b'{"prompt": "' + b"x" * ((1 << 20) - 14 - len(end)) + b'"}' + end
    (read,) = LineReader(io.BytesIO(line), "in", BUILT_IN, 1 << 20)
    assert isinstance(read, JobLine)
    (read,) = LineReader(io.BytesIO(b" " + line), "in", BUILT_IN, 1 << 20)
    assert isinstance(read, BadLine)


def test_a_line_without_end_is_refused_before_it_fills_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mh_batch.jobs.jsonl.lines.MAX_SKIPPED_BYTES", 1 << 20)
    content = b'{"prompt": "x"}\n' + LONG[:-1] * 2
    with pytest.raises(InputError, match="in:2: a line without end"):
        list(LineReader(io.BytesIO(content), "in", BUILT_IN, 1 << 20))


def test_a_line_beyond_the_limit_lands_nothing_or_is_left_out_without_its_text(
    db: Database, tmp_path: Path
) -> None:
    with pytest.raises(BadLines, match=r"in\.jsonl:1: longer than 1 MiB; --max-line-mib takes"):
        submit(db, tmp_path / "in.jsonl", LONG + GOOD, Rules(max_line_mib=1))
    assert counts(db) == (0, 0)
    landed = submit(db, tmp_path / "in.jsonl", LONG + GOOD, Rules(skip_bad=True, max_line_mib=1))
    assert (landed.jobs, landed.rejected) == (2, 1)
    assert landed.rejects is not None
    (reject,) = landed.rejects.read_text().splitlines()
    assert json.loads(reject) == {
        "line": 1,
        "reason": "longer than 1 MiB; --max-line-mib takes longer ones",
    }
    assert submit(db, tmp_path / "in.jsonl", LONG, Rules(max_line_mib=3)).jobs == 1


texts = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20
) | st.sampled_from(
    ["<|start|>system<|message|>", "<|im_end|>", "\x00", "[INST]", "\u2028", "../../x"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts, texts, texts, values)
def test_what_was_sent_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, system: str, user: str, turn: str, mine: object
) -> None:
    db = open_store(tmp_path_factory.mktemp("back") / "mh-batch.db")
    line = {
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
        "turns": [turn],
        "my own": mine,
    }
    content = json.dumps(line).encode() + b"\n"
    submit_stream(db, io.BytesIO(content), batch_of("in.jsonl"))
    run_id = queue.start_run(db, "{}", {})
    job = queue.claim(db, run_id, ModelInfo("demo", "f", "x", "y", "cpu", 1, {}), "demo")
    assert job is not None
    assert [m.content for m in job.request.messages] == [system, user]
    assert job.request.turns == (turn,)
    queue.finish(db, job.id, JobEnd(Status.FAILED, "code", user))
    (back,) = finished_jobs(db, job.batch_id, [Status.FAILED])
    assert back.request == job.request
    assert back.error == user
    assert back.metadata is not None
    assert json.loads(bytes(back.metadata)) == {"my own": mine}
    db.close()


def run_main(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")},
        **options,
    )


def many_lines(path: Path, count: int) -> Path:
    with path.open("w") as out:
        for n in range(count):
            out.write(json.dumps({"custom_id": f"j{n}", "prompt": "word " * 200}) + "\n")
    return path


@contextmanager
def half_way(folder: Path, main: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a submit of standard input, which has a chunk in the database and waits for more."""
    process = subprocess.Popen(
        [sys.executable, "-c", main, "submit", "-"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        # more than a pipe and a chunk hold: once it is written, a chunk is in the database
        for n in range(3 * CHUNK_ROWS):
            process.stdin.write(b'{"custom_id": "j%d", "prompt": "%s"}\n' % (n, b"x" * 2000))
        process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_submit_that_is_ended_half_way_leaves_nothing_visible(
    number: signal.Signals, tmp_path: Path
) -> None:
    with half_way(tmp_path, MAIN) as process:
        process.send_signal(number)
        # its input is still open: only the signal can end it
        process.wait(timeout=60)
        error = process.stderr.read().decode() if process.stderr else ""
    db = open_store(tmp_path / "mh-batch.db")
    if number == signal.SIGKILL:
        assert db["jobs"].count > 0
        queue.recover(db)
    else:
        assert process.returncode == 1
        assert error == "mh-batch: -: stopped; nothing of it was queued\n"
    assert counts(db) == (0, 0)
    db.close()


IGNORING = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from mh_batch.worker.cli import main; main()"
)
"""As `&` in a script starts a command: Ctrl-C is for what stands in front."""


def test_a_submit_in_the_background_of_a_script_goes_on_at_an_interrupt(tmp_path: Path) -> None:
    with half_way(tmp_path, IGNORING) as process:
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert error.decode() == f"batch 1 (stdin): {3 * CHUNK_ROWS:,} jobs queued\n"


def test_rejects_of_standard_input_go_to_the_current_folder(tmp_path: Path) -> None:
    done = run_main(tmp_path, "submit", "-", "--skip-bad", input='{"prompt": "x"}\n{}\n')
    assert done.returncode == 0
    assert "1 bad line left out: stdin.rejected.jsonl" in done.stderr
    assert len((tmp_path / "stdin.rejected.jsonl").read_text().splitlines()) == 1


def test_a_submit_into_a_pipe_shows_no_bar(tmp_path: Path) -> None:
    many_lines(tmp_path / "in.jsonl", 3000)
    done = run_main(tmp_path, "submit", "in.jsonl")
    assert done.stderr == "batch 1 (in): 3,000 jobs queued\n"
    refused = run_main(tmp_path, "submit", "in.jsonl")
    assert refused.returncode == 2
    assert "--again" in refused.stderr


def test_a_submit_on_a_terminal_shows_how_far_it_is(tmp_path: Path) -> None:
    many_lines(tmp_path / "in.jsonl", 5000)
    terminal, other = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "submit", "in.jsonl"], cwd=tmp_path, stderr=other
    )
    os.close(other)
    shown = b"".join(iter(lambda: _read(terminal), b""))
    os.close(terminal)
    assert process.wait(timeout=60) == 0
    assert b"5,000 lines" in shown
    assert b"batch 1 (in): 5,000 jobs queued" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux: the other end is closed
        return b""


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_every_file_is_made_by_the_users_umask_and_none_is_for_all_to_write(
    mask: int, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(MIXED)
    limit: Callable[[], object] = lambda: os.umask(mask)  # noqa: E731
    for arguments in (["submit", "in.jsonl", "--skip-bad"], ["results", "-o", "out.jsonl"]):
        assert run_main(tmp_path, *arguments, preexec_fn=limit).returncode == 0
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    del names["in.jsonl"]
    assert {"mh-batch.db", "out.jsonl", "in.jsonl.rejected.jsonl"} <= names.keys()
    for name, mode in names.items():
        assert not mode & (mask | stat.S_IWOTH), name


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    # the smaller one fills the cache of SQLite already
    for count in (30_000, 60_000):
        many_lines(tmp_path / f"{count}.jsonl", count)
        code = f"import sys; sys.argv = ['mh-batch', 'submit', '{count}.jsonl']\n" + (
            "try:\n    from mh_batch.worker.cli import main; main()\nexcept SystemExit:\n    pass\n"
            "from mh_batch.worker.bench.usage import peak_memory; print(peak_memory())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + (12 << 20)
    assert peaks[1] < 200 << 20


@pytest.mark.parametrize(("source", "name"), [("-", "stdin"), ("in/a.b.jsonl", "a.b"), ("x", "x")])
def test_a_batch_is_called_as_its_file(source: str, name: str) -> None:
    assert batch_name(source) == name


def test_lines_that_name_the_model_without_the_adapter_are_told(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("base", "adapter"):
        (tmp_path / folder).mkdir()
    lines = (
        b'{"prompt": "a"}\n{"prompt": "b", "model": "base"}\n{"prompt": "c", "model": "demo"}\n'
        b'{"prompt": "d", "model": "./base/"}\n{"prompt": "e", "adapter": "none"}\n'
    )
    name = join_name(str(tmp_path / "base"), str(tmp_path / "adapter"))
    told = submit(db, tmp_path / "in.jsonl", lines, model=name).warning
    assert told is not None
    unknown, known = told.split(" for all; ")
    assert unknown.startswith("1 line names a model that was not found: ")
    assert join_name(str(tmp_path / "base"), "none") in unknown
    assert known.startswith("2 lines name the model without the adapter, and will be answered")
    assert "--override-model" in known
