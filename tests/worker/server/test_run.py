"""A server without a worker: its start, its limits, its key, and its end."""

import io
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from helpers.command_line import mh_batch, rows
from helpers.forks import Forks
from helpers.served import Served, batch_lines, create, serving, upload, wait_for
from mh_batch.jobs.errors import InputError
from mh_batch.store.connection import open_store
from mh_batch.store.server.files import add_file, content_path, uploads_folder
from mh_batch.store.server.pending import NewApiBatch, add_batch
from mh_batch.worker.server.run import check_options
from mh_batch.worker.server.state import ServerOptions

KEY = "s3cret"
MOMENTS = ("2026-05-01T01:00:00.000Z", "2126-05-01T01:00:00.000Z")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Served]:
    """A server with a key, for two queued jobs; its last one died before it queued a batch."""
    folder = tmp_path_factory.mktemp("keyed")
    left_by_another(folder)
    options = ("--no-worker", "--max-queued", "2")
    with serving(folder, *options, forks=forks, env={"MH_BATCH_API_KEY": KEY}) as server:
        yield server


def left_by_another(folder: Path) -> None:
    """A database with a batch that is to be validated, and half an upload."""
    path = folder / "mh-batch.db"
    uploads = uploads_folder(path)
    uploads.mkdir()
    (uploads / ".mh-batch-00.partial").write_text("half")
    db = open_store(path)
    content = batch_lines(["Hi", "Ho"])
    file = add_file(
        db,
        "left.jsonl",
        len(content),
        lambda number: content_path(uploads, number).write_bytes(content),
    )
    add_batch(db, NewApiBatch(file.id, "/v1/chat/completions", "24h", *MOMENTS, None))
    db.close()


def test_what_a_server_was_asked_for_before_it_died_is_queued_by_the_next(served: Served) -> None:
    client = served.client(KEY)
    batch = wait_for(
        lambda: client.batches.retrieve("batch_api_1"), lambda b: b.status == "in_progress"
    )
    assert batch.request_counts.total == 2
    assert [path.name for path in (served.folder / "mh-batch.db.files").glob(".*")] == []


def test_a_batch_beyond_the_limit_is_told_to_come_again(served: Served) -> None:
    client = served.client(KEY)
    wait_for(lambda: client.batches.retrieve("batch_api_1"), lambda b: b.status == "in_progress")
    file_id = upload(client, batch_lines(["Hi"]))
    with pytest.raises(openai.RateLimitError) as refused:
        create(client, file_id)
    assert refused.value.response.headers["retry-after"] == "60"
    assert rows(served.folder, "SELECT count(*) FROM api_batches") == [(1,)]


def test_a_client_without_the_key_gets_nothing(served: Served) -> None:
    for ask in (
        lambda client: client.files.list(),
        lambda client: upload(client, b"{}"),
        lambda client: client.batches.retrieve("batch_api_1"),
    ):
        with pytest.raises(openai.AuthenticationError):
            ask(served.client("wrong"))


def test_an_upload_for_another_purpose_is_refused_and_leaves_nothing(served: Served) -> None:
    client = served.client(KEY)
    before = sorted((served.folder / "mh-batch.db.files").iterdir())
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=("a.jsonl", io.BytesIO(b"{}")), purpose="assistants")
    assert refused.value.param == "purpose"
    assert sorted((served.folder / "mh-batch.db.files").iterdir()) == before


def test_health_says_that_nobody_works(served: Served) -> None:
    request = urllib.request.Request(
        f"{served.root}/health", headers={"Authorization": f"Bearer {KEY}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        health = json.load(answer)
    assert (health["status"], health["worker"]["running"]) == ("degraded", False)


def test_a_server_ends_cleanly_with_its_worker_and_the_queue_stays(tmp_path: Path) -> None:
    # a process of its own: a signal must reach it
    with serving(tmp_path) as served:
        client = served.client()
        wait_for(lambda: rows(tmp_path, "SELECT count(*) FROM runs"), lambda found: found == [(1,)])
        batch = create(
            client, upload(client, batch_lines(["Hi"]).replace(b'"model": "demo", ', b""))
        )
        wait_for(lambda: client.batches.retrieve(batch.id), lambda b: b.status == "in_progress")
        served.process.terminate()
        assert served.process.wait(timeout=60) == 0
    assert rows(tmp_path, "SELECT status FROM jobs") == [("queued",)]
    (reason,) = rows(tmp_path, "SELECT end_reason FROM runs")[0]
    assert reason in ("stopped_while_idle", "stopped", "error")
    log = (tmp_path / "serve.log").read_text()
    assert "Traceback" not in log


def test_a_server_that_others_could_use_needs_a_key(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5"):
        with pytest.raises(InputError, match="--api-key"):
            check_options(ServerOptions(db=tmp_path / "x.db", host=host, port=0))
    with pytest.raises(InputError, match="empty"):
        check_options(ServerOptions(db=tmp_path / "x.db", host="::", port=0, api_key=""))
    refused = mh_batch(tmp_path, "serve", "--host", "0.0.0.0", code=2)
    assert "MH_BATCH_API_KEY" in refused.stderr
    # nothing was made
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name)
    )
    refused = mh_batch(tmp_path, "serve", code=2)
    assert "pip install 'mh-batch[serve]'" in refused.stderr
