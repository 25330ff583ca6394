"""Opening: safe for many at once, and harmless to what is not ours."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from helpers.store_samples import lines, model, start, submit, submit_older
from mh_batch.jobs.errors import StoreUnusable, WorkerRunning
from mh_batch.jobs.settings import Settings
from mh_batch.store import connection, queue
from mh_batch.store.connection import (
    immediate,
    location,
    open_reader,
    open_store,
    require_store,
    snapshot,
)
from mh_batch.store.lock import worker_lock
from mh_batch.store.migrations import migrations, names
from mh_batch.store.server.batches import BatchRef, list_api_batches

DESIGN_TABLES = {
    *("batches", "jobs", "turns", "attempts", "parses", "channels", "timings", "crashes", "runs"),
}
OPENER = """
import sys
from pathlib import Path
from mh_batch.store.connection import open_store
sys.stdin.readline()
db = open_store(Path(sys.argv[1]))
db.execute("SELECT count(*) FROM results").fetchone()
db.close()
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_new_database_has_every_table_and_view_of_the_design(db: Database) -> None:
    assert set(db.table_names()) >= DESIGN_TABLES
    assert set(db.view_names()) == {"results", "throughput", "speed_by_context", "retry_yield"}
    for table in db.tables:
        assert table.strict or table.name == "_sqlite_migrations"


def test_a_writer_keeps_its_promises_about_the_disk(db: Database) -> None:
    values = {
        name: db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "fullfsync", "busy_timeout")
    }
    assert values == {
        **{"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "fullfsync": 1},
        "busy_timeout": 30_000,
    }


@pytest.mark.parametrize("_round", range(4))
def test_eight_processes_that_open_a_new_path_together_all_succeed(_round: int, path: Path) -> None:
    command = [sys.executable, "-c", OPENER, str(path)]
    openers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for opener in openers:  # they have imported by now, or will read the line when they have
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    errors = [opener.communicate(timeout=60)[1] for opener in openers]
    assert [opener.returncode for opener in openers] == [0] * 8, errors
    with closing(sqlite3.connect(path)) as plain:
        applied = [row[0] for row in plain.execute("SELECT name FROM _sqlite_migrations")]
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert applied == list(names())


def test_a_link_to_a_database_shares_the_lock_of_the_real_file(path: Path) -> None:
    open_store(path).close()
    folder = path.parent / "elsewhere"
    folder.mkdir()
    link = folder / "link.db"
    link.symlink_to(path)
    with worker_lock(path), pytest.raises(WorkerRunning), worker_lock(link):
        pass
    with closing(open_store(link)) as linked:
        assert location(linked) == Path(os.path.realpath(path))
    assert files_of(folder).keys() == {"link.db"}


def foreign(path: Path) -> str:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE recipes (id INTEGER PRIMARY KEY)")
    return "another program"


def foreign_with_migrations_of_its_own(path: Path) -> str:
    other = Database(path)
    other.table("_sqlite_migrations").insert(
        {"migration_set": "shop", "name": "m1", "applied_at": ""}
    )
    other.table("goods").insert({"id": 1})
    other.close()
    return "another program"


def newer(path: Path) -> str:
    open_store(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as later:
        later.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, '')",
            (migrations.name, "m999_from_the_future"),
        )
    (path.parent / f"{path.name}.lock").unlink()
    return "newer version"


def garbage(path: Path) -> str:
    path.write_bytes(bytes(range(256)) * 40)
    return "not an SQLite database"


@pytest.mark.parametrize(
    "make", [foreign, foreign_with_migrations_of_its_own, newer, garbage], ids=lambda m: m.__name__
)
@pytest.mark.parametrize("opener", [open_store, open_reader], ids=lambda o: o.__name__)
def test_what_is_not_ours_is_refused_in_one_line_and_left_alone(
    make: object, opener: object, path: Path
) -> None:
    assert callable(make)
    assert callable(opener)
    reason = make(path)
    before = files_of(path.parent)
    assert before.keys() == {path.name}
    with pytest.raises(StoreUnusable) as caught:
        opener(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files_of(path.parent) == before


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="a folder"):
        open_store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_refused_without_waiting_for_it(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(StoreUnusable, match="no ordinary file"):
        open_store(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_path_in_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="no folder"):
        open_store(tmp_path / "none" / "mh-batch.db")


@pytest.mark.parametrize("opener", [open_reader, require_store], ids=lambda o: o.__name__)
def test_a_reader_of_no_database_is_told_how_to_make_one(opener: object, path: Path) -> None:
    assert callable(opener)
    for missing in (path, path.parent / "none" / "mh-batch.db"):
        with pytest.raises(StoreUnusable, match="mh-batch submit FILE"):
            opener(missing)
    path.touch()
    with pytest.raises(StoreUnusable, match="no database"):
        opener(path)
    assert files_of(path.parent) == {path.name: b""}


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    with closing(open_store(path)) as db:
        assert "jobs" in db.table_names()


def test_an_opening_that_died_half_way_is_finished_by_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_db: Database) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(migrations._migrations[-1], "fn", fail)
        with pytest.raises(RuntimeError):
            open_store(path)
    with pytest.raises(StoreUnusable, match="no database"):
        open_reader(path)
    with closing(open_store(path)) as db:
        assert migrations.pending(db) == []


def make_older(path: Path) -> None:
    """Make a database as the version before the views and all that followed left it."""
    with closing(Database(path)) as db:
        migrations.apply(db, stop_before=names()[1])


def test_an_older_database_is_brought_up_to_date_by_a_writer_only(path: Path) -> None:
    make_older(path)
    require_store(path)
    with pytest.raises(StoreUnusable, match="older version"):
        open_reader(path)
    with closing(open_store(path)) as db:
        assert len(db.view_names()) == 4


OLDER_ATTEMPT = """
INSERT INTO attempts (
    job_id, choice, turn, step, attempt, run_id, verdict, retry_reason, seed, prompt_tokens,
    prompt_sha256, dropped_turns, completion_tokens, finish_reason, stop_reason, started_at,
    finished_at, sampling, tokens, raw
) VALUES (1, 0, 1, 0, 1, 1, 'retry', 'length', 5, 9, '', 0, 0, 'length', 'max_tokens', '', '', '{}',
    x'', '')
"""


OLDER_RUN = "INSERT INTO runs (started_at, settings, versions) VALUES ('', '{}', '{}')"


def test_what_an_older_version_cut_is_known_as_nothing_that_can_go_on(path: Path) -> None:
    with closing(Database(path)) as db:
        migrations.apply(db, stop_before="m005_continued")
        submit_older(db)
        db.execute(OLDER_RUN)
        db.execute(OLDER_ATTEMPT)
        db.conn.commit()
    with closing(open_store(path)) as db:
        (row,) = db.query("SELECT continues, room FROM attempts")
    assert row == {"continues": 0, "room": 0}


OLDER_TIMING = """
INSERT INTO timings (
    attempt_id, queue_seconds, render_seconds, prefill_seconds, first_token_seconds, decode_seconds,
    parse_seconds, prompt_tokens, reused_tokens, prefill_tokens, completion_tokens, kv_len,
    kv_layout, loop_detection_mode, active_memory_bytes, peak_memory_bytes, cache_memory_bytes,
    process_memory_bytes
) VALUES (1, 0, 0, 0, 0, 1.5, 0, 9, 0, 9, 4, 13, '', 'off', 0, 0, 0, 0)
"""
OLDER_CRASH = """
INSERT INTO crashes (job_id, choice, turn, step, attempt, run_id, at, phase, stderr_tail)
VALUES (1, 0, 1, 0, 2, 1, '', 'decode', '')
"""


def test_what_an_older_version_did_was_done_in_one_slot(path: Path) -> None:
    with closing(Database(path)) as db:
        migrations.apply(db, stop_before="m007_slots")
        submit_older(db)
        submit_older(db, "only claimed")
        db.conn.executescript(";".join((OLDER_RUN, OLDER_ATTEMPT, OLDER_TIMING, OLDER_CRASH)))
        db.execute("UPDATE jobs SET model = 'demo'")
        db.execute("UPDATE batches SET completion_tokens = 4, attempts = 1, decode_seconds = 1.5")
        for batch_id in (1, 2):
            db.execute(
                "INSERT INTO batch_models (batch_id, model, fingerprint) VALUES (?, 'demo', ?)",
                (batch_id, "f" * 64),
            )
        speeds = list(db.query("SELECT hour, decode_seconds, tokens_per_second FROM throughput"))
        db.conn.commit()
    with closing(open_store(path)) as db:
        (timing,) = db.query("SELECT parallel, rows, stall_seconds, machine_seconds FROM timings")
        assert tuple(timing.values()) == (1, 1.0, 0.0, 1.5)
        assert db.table("batches").get(1)["machine_seconds"] == 1.5
        begun = db.query("SELECT parallel, begun, device, versions FROM batch_models")
        assert [tuple(row.values()) for row in begun] == [(1, 1, None, None), (1, 0, None, None)]
        (run,) = db.query("SELECT parallel, allow_variance, most_rows FROM runs")
        assert tuple(run.values()) == (1, 0, None)
        assert next(iter(db["crashes"].rows))["alone"] == 1
        columns = "hour, decode_seconds, tokens_per_second"
        assert list(db.query(f"SELECT {columns} FROM throughput")) == speeds
        assert speeds[0]["tokens_per_second"] == 2.0


def test_an_older_database_with_a_worker_at_it_is_not_migrated_under_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_older(path)
    monkeypatch.setattr(connection, "MIGRATION_WAIT_SECONDS", 0.0)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(WorkerRunning, match=f"pid {holder.pid}"):
        open_store(path)
    holder.communicate(b"\n", timeout=60)
    open_store(path).close()


def test_who_holds_the_lock_may_migrate_without_waiting_for_itself(path: Path) -> None:
    with worker_lock(path):
        open_store(path).close()


HOLDER = """
import sys
from pathlib import Path
from mh_batch.store.lock import worker_lock
with worker_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_reader_sees_committed_work_while_a_writer_is_at_it(path: Path, db: Database) -> None:
    submit(db, lines(3))
    with closing(open_reader(path)) as reader:
        with immediate(db):
            db.execute("DELETE FROM jobs")
            assert reader["jobs"].count == 3
        assert reader["jobs"].count == 0


def test_a_reader_works_when_nobody_writes(path: Path) -> None:
    with closing(open_store(path)) as db:
        submit(db, lines(3))
    assert not path.with_name(path.name + "-wal").exists()
    with closing(open_reader(path)) as reader:
        assert reader["jobs"].count == 3


def test_a_reader_works_where_the_side_files_cannot_be_made(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store(path)) as db:
        submit(db, lines(3))
    real, asked = connection._reader, []

    def reader(uri: str) -> Database:
        asked.append(uri)
        if "immutable" not in uri:
            raise sqlite3.OperationalError("unable to open database file")
        return real(uri)

    monkeypatch.setattr(connection, "_reader", reader)
    with closing(open_reader(path)) as db:
        assert db["jobs"].count == 3
    assert len(asked) == 2


def test_a_reader_cannot_write(path: Path) -> None:
    open_store(path).close()
    refused = pytest.raises(StoreUnusable, match="cannot be written")
    with closing(open_reader(path)) as reader, refused, immediate(reader):
        reader.execute("DELETE FROM batches")


def test_a_block_that_fails_leaves_nothing_of_its_transaction(db: Database) -> None:
    submit(db, lines(2))
    interrupted = pytest.raises(KeyboardInterrupt)
    with interrupted, immediate(db):
        db.execute("DELETE FROM jobs")
        raise KeyboardInterrupt
    assert db["jobs"].count == 2
    assert not db.conn.in_transaction


def test_a_snapshot_shows_one_state_however_long_it_reads(path: Path, db: Database) -> None:
    submit(db, lines(2))
    with closing(open_store(path)) as other, snapshot(db):
        assert db["jobs"].count == 2
        submit(other, lines(5))
        assert db["jobs"].count == 2


def test_a_full_disk_is_told_with_its_cure_and_undoes_the_transaction(db: Database) -> None:
    submit(db, lines(2))
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnusable, match="disk is full; free some space"):
        submit(db, lines(2000), name="too big")
    db.execute("PRAGMA max_page_count = 1000000")
    assert (db["jobs"].count, db["batches"].count) == (2, 1)
    submit(db, lines(2000), name="fits now")


def test_settings_of_an_older_version_are_not_filled_by_the_model(path: Path) -> None:
    with closing(Database(path)) as db:
        migrations.apply(db, stop_before="m009_defaults")
        submit_older(db)
    with closing(open_store(path)) as db:
        info = replace(model(), defaults={"temperature": 0.1})
        job = queue.claim(db, start(db), info, "demo")
        assert job is not None
        assert job.settings == Settings()
        assert next(db.query("SELECT defaults FROM batch_models")) == {"defaults": None}


def test_batches_of_an_older_version_are_those_of_no_client(path: Path) -> None:
    with closing(Database(path)) as db:
        migrations.apply(db, stop_before="m011_files")
        submit(db, lines(2))
    with closing(open_store(path)) as db:
        (batch,) = db.query("SELECT api_batch_id FROM batches")
        assert batch == {"api_batch_id": None}
        found = list_api_batches(db, 10, None)
        assert found is not None
        assert [(each.ref, each.batch_id) for each in found[0]] == [(BatchRef(False, 1), 1)]


def test_answers_of_an_older_version_have_no_json(path: Path) -> None:
    with closing(Database(path)) as db:
        migrations.apply(db, stop_before="m008_forms")
        submit_older(db)
        db.conn.executescript(";".join((OLDER_RUN, OLDER_ATTEMPT)))
        db.execute(
            "INSERT INTO turns (job_id, choice, turn, step, accepted_attempt_id, attempts, "
            "rescued, complete, finish_reason, final) VALUES (1, 0, 1, 0, 1, 1, 0, 1, 'stop', '{}')"
        )
        db.execute("UPDATE jobs SET status = 'done'")
        db.conn.commit()
    with closing(open_store(path)) as db:
        assert list(db.query("SELECT final, parsed FROM results")) == [
            {"final": "{}", "parsed": None}
        ]
        (run,) = db.query("SELECT accept FROM runs")
        assert run == {"accept": None}
        with pytest.raises(sqlite3.IntegrityError), immediate(db):
            db.execute("UPDATE turns SET parsed = '{'")
