"""`mh-batch explore`: what it tells datasette, and datasette itself where it is installed."""

import http.client
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path

import pytest

from helpers.command_line import MAIN, mh_batch
from mh_batch.jobs.errors import InputError
from mh_batch.store.reports.query import job_queries, recipes
from mh_batch.worker.output.explore.metadata import HIDDEN, TABLES, metadata
from mh_batch.worker.output.explore.start import command, explore

INSTALLED = importlib.util.find_spec("datasette") is not None


def test_the_cookbook_is_at_hand_under_the_name_of_the_database() -> None:
    queries = metadata("my-night")["databases"]["my-night"]["queries"]
    assert list(queries) == [*recipes(), *job_queries()]
    assert queries["slowest"]["title"] == recipes()["slowest"].about
    assert queries["slowest"]["sql"] == recipes()["slowest"].sql


def test_datasette_serves_the_file_as_it_changes_and_only_to_this_machine() -> None:
    words = command(Path("/nights/mh-batch.db"), 8123)
    assert words[:5] == [
        sys.executable,
        "-P",
        "-m",
        "mh_batch.worker.output.explore.server",
        "serve",
    ]
    assert words[5] == "/nights/mh-batch.db"
    assert "--immutable" not in words
    pairs = list(pairwise(words))
    assert {("--host", "127.0.0.1"), ("--port", "8123"), ("--metadata", "-")} <= set(pairs)
    assert ("allow_download", "off") in pairs


@pytest.mark.skipif(INSTALLED, reason="datasette is installed")
def test_without_datasette_the_cure_is_named(night: Path) -> None:
    error = mh_batch(night, "explore", code=2).stderr
    assert error == "mh-batch: explore needs datasette: pip install 'mh-batch[explore]'\n"


def test_a_path_that_datasette_would_misread_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    with pytest.raises(InputError, match="cannot open a path with # "):
        explore(tmp_path / "night#1.db", 0)


@pytest.mark.skipif(not INSTALLED, reason="an extra")
def test_no_database_is_one_clear_line(tmp_path: Path) -> None:
    assert "submit FILE" in mh_batch(tmp_path, "explore", code=3).stderr


@pytest.fixture(scope="module")
def address(night: Path) -> Iterator[str]:
    """Where datasette serves the night, as `127.0.0.1:PORT`."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", MAIN, "explore", "--port", "0"],
        cwd=night,
        env={k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        # the first thing that is said, and all
        found = re.fullmatch(
            r"mh-batch: the database is at http://(127\.0\.0\.1:\d+)/ \(Ctrl-C ends it\)\n",
            process.stderr.readline(),
        )
        assert found is not None
        yield found[1]
    finally:
        process.terminate()
        process.wait(timeout=60)


def asked(address: str, path: str, host: str | None, method: str = "GET") -> tuple[int, str]:
    """Return the status and the text that a request for `host` is answered with."""
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    try:
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.skipif(not INSTALLED, reason="an extra")
def test_datasette_answers_a_recipe_and_refuses_to_write_or_to_give_the_file_away(
    address: str,
) -> None:
    url = f"http://{address}"
    with urllib.request.urlopen(f"{url}/mh-batch/crashes.json?_shape=array", timeout=60) as answer:
        (crash,) = json.load(answer)
    assert crash["custom_id"] == "count"
    for path in ("mh-batch.db", "mh-batch.json?sql=delete+from+jobs"):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{url}/{path}", timeout=60)


@pytest.mark.skipif(not INSTALLED, reason="an extra")
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost"])
def test_datasette_answers_to_its_own_name(address: str, name: str) -> None:
    port = address.rpartition(":")[2]
    status, page = asked(address, "/mh-batch/jobs.json", f"{name}:{port}")
    assert status == 200
    assert "hostile" in page


@pytest.mark.skipif(not INSTALLED, reason="an extra")
@pytest.mark.parametrize("path", ["/", "/mh-batch/jobs.json", "/-/static/app.css", "/nothing"])
@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost"),
        *("127.0.0.1.evil.example:{port}", "127.0.0.1:{port}@evil.example", "", None),
    ],
)
def test_a_request_for_another_host_is_refused(address: str, host: str | None, path: str) -> None:
    port = address.rpartition(":")[2]
    status, page = asked(address, path, host and host.format(port=port))
    # the server itself refuses a request that is none
    assert status in (400, 403)
    assert "custom_id" not in page


@pytest.mark.skipif(not INSTALLED, reason="an extra")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/mh-batch/slowest", "/mh-batch", "/mh-batch/jobs", "/"])
def test_what_does_not_read_is_not_allowed(address: str, method: str, path: str) -> None:
    assert asked(address, path, address, method)[0] == 405


@pytest.mark.skipif(not INSTALLED, reason="an extra")
def test_at_the_port_of_the_web_a_host_needs_no_port() -> None:
    from mh_batch.worker.output.explore.server import names

    assert ("127.0.0.1",) in names("127.0.0.1", 80)
    assert ("127.0.0.1",) not in names("127.0.0.1", 8001)


def page(address: str, path: str) -> str:
    status, text = asked(address, path, address)
    assert status == 200
    return text


@pytest.mark.skipif(not INSTALLED, reason="an extra")
def test_the_first_page_has_the_questions_of_the_cookbook(address: str) -> None:
    text = page(address, "/")
    for name, entry in recipes().items():
        assert f'href="/mh-batch/{name}">{escape(entry.about, quote=False)}</a>' in text
    assert 'href="/mh-batch/jobs"' in text
    assert "job_channels" not in text


@pytest.mark.skipif(not INSTALLED, reason="an extra")
def test_a_job_leads_to_its_turns_its_attempts_and_their_channels(address: str) -> None:
    text = page(address, "/mh-batch/jobs/1")
    for table in ("turns", "attempts"):
        assert f'href="/mh-batch/{table}?job_id=1">{table}: 1</a>' in text
    assert 'href="/mh-batch/job_channels?job_id=1"' in text
    # no empty list is a link
    assert "crashes" not in text
    assert "<th>custom_id</th>" in text
    answer = json.loads(page(address, "/mh-batch/job_channels.json?job_id=1&_shape=array"))
    assert [row["channel"] for row in answer] == ["analysis", "final"]


@pytest.mark.skipif(not INSTALLED, reason="an extra")
def test_numbers_are_rounded_and_ids_are_links_in_queries_too(address: str) -> None:
    assert 'col-job_id"><a href="/mh-batch/jobs/' in page(address, "/mh-batch/slowest")
    text = page(address, "/mh-batch/timings?_size=1")
    assert re.search(r'col-process_memory_bytes type-int">[\d.]+ [MG]iB<', text)
    (seconds,) = re.findall(r'col-decode_seconds type-float">([^<]+)<', text)
    assert len(seconds.replace(".", "").lstrip("0")) <= 3


@pytest.mark.skipif(not INSTALLED, reason="an extra")
def test_internal_tables_are_hidden_and_every_other_is_described(address: str) -> None:
    answer = json.loads(page(address, "/mh-batch.json"))
    tables = {table["name"]: table["hidden"] for table in answer["tables"]}
    assert {name for name, hidden in tables.items() if hidden} == set(HIDDEN) & set(tables)
    assert {name for name, hidden in tables.items() if not hidden} <= set(TABLES)
    facets = json.loads(page(address, "/mh-batch/jobs.json"))["facet_results"]
    assert set(facets) == {"status", "batch_id"}


@pytest.mark.skipif(not INSTALLED, reason="an extra")
@pytest.mark.parametrize(
    ("value", "shown"), [(0.0012345, "0.00123"), (13.5249, "13.5"), (12345.6, "12,346"), (0.0, "0")]
)
def test_a_number_has_three_digits(value: float, shown: str) -> None:
    from mh_batch.worker.output.explore.server import readable

    assert readable(value) == shown


@pytest.mark.skipif(not INSTALLED, reason="an extra")
def test_the_log_has_warnings_and_where_the_server_is() -> None:
    from mh_batch.worker.output.explore.server import StartOnly

    def written(level: int, text: str) -> bool:
        return StartOnly().filter(logging.LogRecord("x", level, "x", 1, text, (), None))

    assert written(logging.ERROR, "address already in use")
    assert written(logging.INFO, "Uvicorn running on %s://%s:%d")
    assert not written(logging.INFO, '127.0.0.1 - "GET / HTTP/1.1" 200')
