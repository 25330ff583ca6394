"""OpenAI's own client, unchanged, against a real server on the demo model."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch, FileObject
from openai.types.chat import ChatCompletion

from helpers.command_line import mh_batch, rows
from helpers.documents import TEXTS
from helpers.forks import Forks
from helpers.served import (
    Served,
    batch_lines,
    create,
    mt_bench,
    serving,
    upload,
    wait_for,
)

METADATA = {"suite": "mt-bench", "round": "1"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Served]:
    """A server with its worker, and a database with one batch of the command line."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "sums.jsonl").write_text('{"custom_id": "sum", "prompt": "What is 17 + 25?"}\n')
    mh_batch(folder, "submit", "sums.jsonl")
    with serving(folder, "--model", "demo", forks=forks) as server:
        yield server


@pytest.fixture(scope="module")
def finished(served: Served) -> Batch:
    """A batch of MT-Bench questions, created and ended."""
    client = served.client()
    file_id = upload(client, batch_lines(mt_bench(2)), "mt bench.jsonl")
    batch = create(client, file_id, metadata=METADATA)
    assert batch.status == "validating"
    ended: Batch = served.ended(batch.id)
    return ended


def lines_of(served: Served, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    text = served.client().files.content(file_id).text
    return [json.loads(line) for line in text.splitlines()]


def test_a_batch_of_mt_bench_is_uploaded_created_polled_and_downloaded(
    served: Served, finished: Batch
) -> None:
    assert finished.status == "completed"
    assert finished.request_counts is not None
    assert finished.request_counts.to_dict() == {"completed": 2, "failed": 0, "total": 2}
    assert finished.error_file_id is None
    lines = lines_of(served, finished.output_file_id)
    assert [line["custom_id"] for line in lines] == ["q1", "q2"]
    for line in lines:
        assert line["response"]["status_code"] == 200
        answer = ChatCompletion.model_validate(line["response"]["body"])
        assert answer.choices[0].message.content
        assert answer.usage is not None


def test_batches_and_files_are_of_openais_types(served: Served, finished: Batch) -> None:
    client = served.client()
    for batch in client.batches.list():
        Batch.model_validate(batch.to_dict(mode="json"), strict=True)
    for file in client.files.list():
        FileObject.model_validate(file.to_dict(mode="json"), strict=True)
    assert finished.metadata == METADATA
    assert finished.created_at <= (finished.in_progress_at or 0) <= (finished.completed_at or 0)
    assert (finished.expires_at or 0) - finished.created_at == 24 * 3600


def test_a_file_comes_back_as_it_was_sent_under_its_name(served: Served, finished: Batch) -> None:
    client = served.client()
    file = client.files.retrieve(finished.input_file_id)
    assert (file.filename, file.purpose) == ("mt bench.jsonl", "batch")
    sent = batch_lines(mt_bench(2))
    assert file.bytes == len(sent)
    assert client.files.content(file.id).content == sent


def test_results_are_as_long_as_their_file_says(served: Served, finished: Batch) -> None:
    client = served.client()
    assert finished.output_file_id is not None
    file = client.files.retrieve(finished.output_file_id)
    assert file.purpose == "batch_output"
    assert len(client.files.content(file.id).content) == file.bytes


def test_the_command_line_sees_a_batch_of_the_interface(served: Served, finished: Batch) -> None:
    extra: dict[str, Any] = finished.to_dict()["mh_batch"]  # type: ignore[assignment]
    number = str(extra["batch"])
    status = json.loads(mh_batch(served.folder, "status", number, "--json").stdout)
    assert "mt bench" in json.dumps(status)
    mh_batch(served.folder, "results", number, "-o", "out.jsonl")
    assert finished.output_file_id is not None
    content = served.client().files.content(finished.output_file_id).content
    assert (served.folder / "out.jsonl").read_bytes() == content
    assert mt_bench(1)[0][:40] in mh_batch(served.folder, "show", f"{number}/q1").stdout


def test_the_interface_sees_a_batch_of_the_command_line(served: Served) -> None:
    client = served.client()
    batch = served.ended("batch_1")
    assert batch.id in [each.id for each in client.batches.list()]
    assert batch.status == "completed"
    (line,) = lines_of(served, batch.output_file_id)
    assert line["custom_id"] == "sum"
    assert line["response"]["body"]["choices"][0]["message"]["content"] == "17 + 25 = 42"
    assert client.files.retrieve(batch.input_file_id).filename == "sums.jsonl"
    with pytest.raises(openai.NotFoundError, match="not kept"):
        client.files.content(batch.input_file_id)


def test_a_batch_is_cancelled_in_the_middle_and_keeps_what_is_done(served: Served) -> None:
    client = served.client()
    many = batch_lines([f"What is {n} + 9?" for n in range(11, 91)], max_tokens=64)
    batch = create(client, upload(client, many))
    wait_for(
        lambda: client.batches.retrieve(batch.id),
        lambda b: b.request_counts.completed >= 1,
    )
    cancelling = client.batches.cancel(batch.id)
    assert cancelling.status == "cancelling"
    ended = served.ended(batch.id)
    assert (ended.status, ended.request_counts.total) == ("cancelled", 80)
    assert ended.cancelling_at <= ended.cancelled_at
    answers = lines_of(served, ended.output_file_id)
    assert 1 <= len(answers) == ended.request_counts.completed < 80
    errors = lines_of(served, ended.error_file_id)
    assert len(answers) + len(errors) == 80
    assert {line["error"]["code"] for line in errors} == {"cancelled"}
    with pytest.raises(openai.BadRequestError, match="Cannot cancel"):
        client.batches.cancel(batch.id)


def test_a_file_with_bad_lines_fails_with_each_of_them_and_queues_nothing(served: Served) -> None:
    client = served.client()
    good, same = batch_lines(["Hi"]), batch_lines(["Ho"])
    elsewhere = batch_lines(["Hi"], model="/etc").replace(b"q1", b"q9")
    hot = batch_lines(["Hi"], temperature=9).replace(b"q1", b"q8")
    before = rows(served.folder, "SELECT count(*) FROM jobs")
    batch = create(client, upload(client, good + b"{oops\n" + same + elsewhere + hot))
    failed = served.ended(batch.id)
    assert failed.status == "failed"
    assert failed.failed_at is not None
    found = {error.line: (error.code, error.param) for error in failed.errors.data}
    assert found == {
        2: ("invalid_json_line", None),
        3: ("duplicate_custom_id", "custom_id"),
        4: ("model_not_found", "model"),
        5: ("invalid_request", "body.temperature"),
    }
    assert rows(served.folder, "SELECT count(*) FROM jobs") == before


def test_lists_come_in_pages_the_latest_first(served: Served, finished: Batch) -> None:
    client = served.client()
    page = client.batches.list(limit=1)
    assert page.has_more
    one_by_one = [batch.id for batch in page]
    assert one_by_one == [batch.id for batch in client.batches.list(limit=100)]
    assert one_by_one[-1] == "batch_1"
    assert finished.id in one_by_one
    files = [file.id for file in client.files.list(limit=2)]
    assert files == [file.id for file in client.files.list(order="asc", limit=2)][::-1]
    uploads = list(client.files.list(purpose="batch"))
    assert {file.purpose for file in uploads} == {"batch"}
    assert len(uploads) < len(files)
    with pytest.raises(openai.BadRequestError, match="after"):
        client.batches.list(after="batch_999")
    with pytest.raises(openai.BadRequestError, match="limit"):
        client.batches.list(limit=101)


def test_a_deleted_file_is_gone_from_the_disk_too(served: Served) -> None:
    client = served.client()
    file_id = upload(client, b"{}\n")
    path = served.folder / "mh-batch.db.files" / f"{file_id.removeprefix('file-')}.jsonl"
    assert path.read_bytes() == b"{}\n"
    assert client.files.delete(file_id).deleted
    assert not path.exists()
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            ask(file_id)


def test_the_models_are_those_that_a_line_may_name(served: Served) -> None:
    client = served.client()
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").owned_by == "mh-batch"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("mlx-community/gpt-oss-20b-MXFP4-Q8")


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"input_file_id": "file-999"}, "input_file_id"),
        ({"input_file_id": "../../etc/passwd"}, "input_file_id"),
        ({"metadata": {"key": "x" * 513}}, "metadata[...]"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, None),
    ],
)
def test_a_wrong_request_for_a_batch_is_refused_with_the_field(
    served: Served, values: dict[str, Any], param: str | None
) -> None:
    right = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    with pytest.raises(openai.APIStatusError) as refused:
        served.client().batches.create(**{"input_file_id": "file-1", **right, **values})
    assert refused.value.status_code in (400, 404)
    assert refused.value.body["param"] == param  # type: ignore[index]


def test_health_says_that_a_worker_is_there(served: Served, finished: Batch) -> None:
    assert finished.status == "completed"
    with urllib.request.urlopen(f"{served.root}/health", timeout=30) as answer:
        health = json.load(answer)
    assert health["status"] == "ok"
    assert health["worker"]["started_here"]
    assert health["worker"]["fault"] is None
    assert health["jobs"]["done"] + health["jobs"]["incomplete"] >= 3


def test_another_address_and_another_method_are_answered_in_openais_form(served: Served) -> None:
    for path, method, code in (("/v1/embeddings", "POST", 404), ("/v1/files", "PUT", 405)):
        request = urllib.request.Request(f"{served.root}{path}", b"{}", method=method)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == code
        assert set(json.load(refused.value)["error"]) == {"message", "type", "param", "code"}


def test_a_second_server_at_the_database_is_refused(served: Served) -> None:
    refused = mh_batch(served.folder, "serve", "--port", "0", "--no-worker", code=3)
    assert "another `mh-batch serve`" in refused.stderr


def test_the_program_of_the_page_runs(
    served: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", TEXTS["docs/serve.md"], flags=re.DOTALL)
    (tmp_path / "questions.jsonl").write_bytes(batch_lines(["What is 12 + 9?"], max_tokens=64))
    monkeypatch.chdir(tmp_path)
    exec(program.replace("http://127.0.0.1:8000/v1", served.url), {})
    assert "12 + 9 = 21" in capsys.readouterr().out
