"""What is stored becomes what OpenAI's clients read."""

from datetime import timedelta

import pytest
from openai.types import Batch, FileObject

from mh_batch.jobs.errors import BadLine, BadLines
from mh_batch.jobs.status import Status
from mh_batch.store.server.batches import ApiBatch, BatchRef
from mh_batch.store.server.files import StoredFile
from mh_batch.worker.server.objects import (
    BatchStatus,
    batch_id,
    batch_object,
    batch_status,
    error_entry,
    file_object,
    line_errors,
    page_object,
    parse_batch_id,
    parse_file_id,
    parse_source_id,
    parse_window,
    source_object,
    unix,
)

T1, T2, T3 = (f"2026-05-01T0{hour}:00:00.000Z" for hour in (1, 2, 3))
HOURS = 3600
Q, R, D, N, F, C = Status


def batch(counts: dict[Status, int] | None = None, **values: object) -> ApiBatch:
    """A batch of a client; one with counts is queued."""
    queued = {} if counts is None else {"batch_id": 3, "counts": counts, "in_progress_at": T2}
    made = {"ref": BatchRef(True, 7), "created_at": T1, "endpoint": "/v1/chat/completions"}
    return ApiBatch(**{**made, "file_id": 5, **queued, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stored", "status"),
    [
        (batch(), "validating"),
        (batch(failed_at=T2), "failed"),
        (batch(cancelled_at=T2), "cancelled"),
        (batch({Q: 3}), "in_progress"),
        (batch({R: 1, D: 2}), "in_progress"),
        (batch({R: 1, C: 2}, cancelling_at=T2), "cancelling"),
        (batch({R: 1, C: 2}, expired_at=T2), "cancelling"),
        (batch({D: 3}), "finalizing"),
        (batch({C: 3}, cancelling_at=T2), "finalizing"),
        (batch({D: 2, F: 1}, ended_at=T3), "completed"),
        (batch({F: 3}, ended_at=T3), "completed"),
        (batch({D: 1, C: 2}, ended_at=T3, cancelling_at=T2), "cancelled"),
        (batch({D: 1, C: 2}, ended_at=T3, expired_at=T2), "expired"),
        # one job that somebody cancelled by the command line is no end of the batch
        (batch({D: 2, C: 1}, ended_at=T3), "completed"),
        (batch({C: 3}, ended_at=T3), "cancelled"),
        # it was done before that took effect
        (batch({D: 3}, ended_at=T3, cancelling_at=T2), "completed"),
        (batch({D: 3}, ended_at=T3, expired_at=T2), "completed"),
    ],
)
def test_the_state_of_a_batch_follows_from_its_jobs(stored: ApiBatch, status: str) -> None:
    assert batch_status(stored) == status


def test_every_state_is_one_of_openais() -> None:
    field = Batch.model_fields["status"].annotation
    assert set(field.__args__) == set(BatchStatus)  # type: ignore[union-attr]


def test_results_are_named_only_once_they_were_measured() -> None:
    files = {"output_file": 8, "error_file": 9}
    running = batch_object(batch({R: 1, D: 2}, **files))
    assert (running["output_file_id"], running["error_file_id"]) == (None, None)
    ended = batch_object(batch({D: 2, F: 1}, ended_at=T3, **files))
    assert (ended["output_file_id"], ended["error_file_id"]) == ("file-8", "file-9")


def test_the_times_of_a_batch_say_when_it_came_to_each_state() -> None:
    done = Batch.model_validate(batch_object(batch({D: 1}, ended_at=T3)) | {"metadata": None})
    assert (done.created_at, done.in_progress_at) == (unix(T1), unix(T2))
    assert (done.finalizing_at, done.completed_at, done.cancelled_at) == (unix(T3), unix(T3), None)
    stopped = batch_object(batch({C: 1}, ended_at=T3, cancelling_at=T2))
    assert (stopped["cancelling_at"], stopped["cancelled_at"]) == (unix(T2), unix(T3))
    late = batch_object(batch({C: 1}, ended_at=T3, expired_at=T2))
    assert (late["expired_at"], late["completed_at"]) == (unix(T3), None)
    assert (unix(T2) or 0) - (unix(T1) or 0) == HOURS


def test_failed_counts_the_lines_of_the_error_file() -> None:
    counts = batch_object(batch({Q: 1, D: 2, N: 3, F: 4, C: 5}))["request_counts"]
    assert counts == {"total": 15, "completed": 5, "failed": 9}


def test_a_batch_of_the_command_line_has_all_that_a_client_needs() -> None:
    submitted = batch({D: 1}, ref=BatchRef(False, 3), file_id=None, source="/home/x/sums.jsonl")
    read = Batch.model_validate(batch_object(submitted), strict=True)
    assert (read.id, read.input_file_id, read.expires_at) == ("batch_3", "file-source-3", None)
    source = FileObject.model_validate(source_object(submitted), strict=True)
    assert (source.id, source.filename) == ("file-source-3", "sums.jsonl")


def test_a_file_has_all_that_a_client_needs() -> None:
    file = StoredFile(4, "batch_output", 3, "output", 99, T1, "batch_3_output.jsonl")
    read = FileObject.model_validate(file_object(file), strict=True)
    assert (read.id, read.bytes, read.purpose) == ("file-4", 99, "batch_output")


@pytest.mark.parametrize("ref", [BatchRef(True, 12), BatchRef(False, 12)])
def test_an_id_leads_back_to_its_batch(ref: BatchRef) -> None:
    assert parse_batch_id(batch_id(ref)) == ref


@pytest.mark.parametrize(
    "text",
    ["", "batch_", "batch_0", "batch_-1", "batch_1\n", "batch_api_x", "file-1", f"batch_{9**30}"],
)
def test_what_is_no_id_is_the_id_of_nothing(text: str) -> None:
    assert parse_batch_id(text) is None
    assert parse_file_id(text.replace("batch_", "file-") + "x") is None
    assert parse_source_id(text) is None


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("24h", timedelta(hours=24)),
        ("90m", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("0h", None),
        ("24", None),
        ("99999d", None),
        ("24h ", None),
    ],
)
def test_a_completion_window_is_a_number_with_a_unit(text: str, length: timedelta | None) -> None:
    assert parse_window(text) == length


def test_bad_lines_become_errors_with_a_code_and_the_field() -> None:
    bad = [
        BadLine(1, "not JSON: unexpected end"),
        BadLine(2, "custom_id: 'a' is already that of line 1"),
        BadLine(3, "model: 'x' is not one that GET /v1/models lists"),
        BadLine(4, "body.messages[0].role: missing"),
    ]
    errors = line_errors(BadLines("f", bad, 10, ["f:1: ..."]))
    assert [(e["line"], e["code"], e["param"]) for e in errors] == [
        (1, "invalid_json_line", None),
        (2, "duplicate_custom_id", "custom_id"),
        (3, "model_not_found", "model"),
        (4, "invalid_request", "body.messages[0].role"),
        (None, "too_many_errors", None),
    ]
    assert errors[-1]["message"] == "and 6 more bad lines"
    assert error_entry("invalid_file", "f: empty")["param"] is None


def test_a_batch_says_what_is_wrong_in_bounded_length() -> None:
    bad = [BadLine(number, "prompt: " + "x" * 1000) for number in range(1, 500)]
    errors = line_errors(BadLines("f", bad, 500, ["..."]))
    assert len(errors) == 101
    assert errors[-1]["message"] == "and 400 more bad lines"
    assert max(len(error["message"]) for error in errors) == 501


def test_a_page_names_its_ends() -> None:
    page = page_object([{"id": "a"}, {"id": "b"}], True)
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("a", "b", True)
    empty = page_object([], False)
    assert (empty["first_id"], empty["last_id"], empty["data"]) == (None, None, [])
