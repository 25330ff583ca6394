"""Numbers and names as people read them."""

from datetime import UTC, datetime, timedelta

import pytest

from mh_batch.worker.text.format import (
    format_clock,
    format_count,
    format_duration,
    format_size,
    printable,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (42.4, "0:42"), (300, "5:00"), (754, "12:34"), (3900, "1:05:00")],
)
def test_a_duration_reads_as_people_write_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("hours", "text"), [(1, "13:00"), (12, "Sat 00:00"), (24 * 7, "08 May 12:00")]
)
def test_a_time_of_another_day_names_the_day(hours: int, text: str) -> None:
    assert format_clock(NOON + timedelta(hours=hours), NOON) == text


def test_one_is_not_many() -> None:
    assert [format_count(n, "job") for n in (0, 1, 2, 1204)] == [
        "0 jobs",
        "1 job",
        "2 jobs",
        "1,204 jobs",
    ]
    assert format_count(2, "batch", "batches") == "2 batches"


def test_sizes_are_in_gib_from_one_on() -> None:
    assert (format_size(200 * 2**20), format_size(3 * 2**29)) == ("200 MiB", "1.5 GiB")


def test_what_would_steer_a_terminal_is_replaced() -> None:
    assert printable("a\x1b[2J\x9b\nb é") == r"a\x1b[2J\x9b\x0ab é"
