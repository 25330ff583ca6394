"""A query reads, and can do nothing else to any file."""

import gc
import sys
from pathlib import Path

import pytest
from sqlite_utils import Database

from helpers.queries import query
from helpers.store_samples import finish_next, lines, start, submit
from mh_batch.jobs.errors import InputError, StoreUnusable
from mh_batch.store.connection import open_reader
from mh_batch.store.reports.query import ask

READS = [
    "SELECT count(*) FROM jobs",
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n",
    "SELECT json_extract(sampling, '$.temperature') FROM attempts",
    "SELECT channel, count(*) FROM channels GROUP BY 1",
    "SELECT * FROM results",
    "EXPLAIN QUERY PLAN SELECT * FROM jobs",
    "PRAGMA table_info(jobs)",
    "PRAGMA integrity_check",
    "PRAGMA foreign_key_check",
    "SELECT name FROM pragma_table_info('jobs')",
    "SELECT j.value FROM parses AS p, json_each(p.problems) AS j",
    "VALUES (1, 2)",
    "SELECT rank() OVER (ORDER BY id) FROM jobs ORDER BY custom_id DESC; -- done",
]
WRITES = [
    "INSERT INTO runs (started_at, versions, settings) VALUES ('', '{}', '{}')",
    "UPDATE jobs SET status = 'done' RETURNING id",
    "DELETE FROM turns",
    "UPDATE sqlite_schema SET sql = ''",
    "WITH gone AS (SELECT 1) DELETE FROM jobs",
    "ATTACH '{folder}/new.db' AS new",
    "ATTACH 'file:{folder}/new.db?mode=rwc' AS new",
    "VACUUM",
    "VACUUM INTO '{folder}/copy.db'",
    "CREATE TABLE more (a)",
    "CREATE TEMP TABLE more (a)",
    "DROP VIEW results",
    "REINDEX",
    "ANALYZE",
    "BEGIN",
    "SAVEPOINT here",
    "DETACH main",
    "PRAGMA writable_schema = ON",
    "PRAGMA query_only = OFF",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA user_version = 7",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA temp_store_directory = '{folder}'",
    "PRAGMA key_that_is_none",
    "SELECT load_extension('{folder}/evil.so')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT writefile('{folder}/new', 'x')",
    "SELECT readfile('/etc/hostname')",
    "SELECT edit('x', 'touch {folder}/new')",
    "SELECT (SELECT load_extension('{folder}/evil.so', 'main')) FROM jobs",
    "ATTACH ':memory:' AS new",
    "CREATE VIEW more AS SELECT 1",
    "CREATE TEMP VIEW more AS SELECT 1",
    "CREATE TRIGGER more AFTER INSERT ON jobs BEGIN SELECT 1; END",
    "ALTER TABLE jobs ADD COLUMN more",
    "INSERT INTO sqlite_schema VALUES ('table', 'a', 'a', 0, '')",
    "PRAGMA main.user_version = 7",
    "PRAGMA application_id(7)",
    "PRAGMA encoding = 'UTF-16'",
    "PRAGMA journal_mode(OFF)",
    "PRAGMA mmap_size = 0",
    "PRAGMA incremental_vacuum",
    "PRAGMA optimize",
    "PRAGMA temp_store = 1",
    "PRAGMA trusted_schema = ON",
    "SELECT * FROM pragma_wal_checkpoint('TRUNCATE')",
    "SELECT * FROM pragma_journal_mode('DELETE')",
    "EXPLAIN SELECT load_extension('x')",
    "CREATE VIRTUAL TABLE words USING fts5 (text)",
]


@pytest.fixture
def filled(path: Path, db: Database) -> Path:
    submit(db, lines(3))
    finish_next(db, start(db))
    db.close()
    return path


@pytest.mark.parametrize("sql", READS)
def test_what_reads_is_answered(sql: str, filled: Path) -> None:
    columns, rows = query(filled, sql)
    for row in rows:
        assert len(row) == len(columns)


def test_an_answer_has_names_and_tuples(filled: Path) -> None:
    columns, rows = query(filled, "SELECT id, custom_id AS name FROM jobs ORDER BY id LIMIT 2")
    assert columns == ["id", "name"]
    assert rows == [(1, "line-1"), (2, "line-2")]


@pytest.mark.parametrize("sql", WRITES)
def test_what_would_change_anything_is_refused_and_changes_nothing(sql: str, filled: Path) -> None:
    before = (sorted(filled.parent.iterdir()), filled.read_bytes())
    with pytest.raises(InputError) as caught:
        query(filled, sql.replace("{folder}", str(filled.parent)))
    assert "\n" not in str(caught.value)
    side_files = {filled.with_name(filled.name + suffix) for suffix in ("-wal", "-shm")}
    after = (sorted(set(filled.parent.iterdir()) - side_files), filled.read_bytes())
    assert after == before


@pytest.mark.parametrize(
    "sql",
    ["", "SELECT 1; SELECT 2", "SELEC 1", "SELECT * FROM nothing", "SELECT ?", "SELECT 1 \x00"],
)
def test_bad_sql_is_one_clear_line(sql: str, filled: Path) -> None:
    with pytest.raises(InputError, match="query: ") as caught:
        query(filled, sql)
    assert "\n" not in str(caught.value)


def test_an_error_half_way_through_the_rows_is_one_clear_line(filled: Path) -> None:
    sql = "SELECT json_extract(custom_id, '$') FROM jobs"
    with pytest.raises(InputError, match="malformed JSON"):
        query(filled, sql)


def test_a_query_of_no_database_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(StoreUnusable, match="mh-batch submit FILE"):
        query(path, "SELECT 1")


def test_rows_that_nobody_reads_to_their_end_are_no_error(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    numbers = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT x FROM t"
    db = open_reader(filled)
    _, rows = ask(db, numbers)
    assert next(rows) == (1,)
    db.close()
    del rows
    gc.collect()
    assert ignored == []
