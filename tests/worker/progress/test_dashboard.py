"""The lines that are shown while a queue is drained."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len

from helpers.snapshots import batch, snapshot
from mh_batch.jobs.record import AttemptKey
from mh_batch.jobs.status import Status
from mh_batch.store.reports.progress import ENOUGH_JOBS, Pace
from mh_batch.worker.progress.dashboard import MAX_BARS, lines, summary_line
from mh_batch.worker.progress.snapshot import Attempting, Snapshot, seconds_left

EVENING = datetime(2026, 5, 1, 23, 50, tzinfo=UTC)


def shown(drawn: Snapshot, width: int = 100, height: int = 24) -> list[str]:
    return [line.plain.rstrip() for line in lines(drawn, width, height, EVENING)]


def test_everything_a_person_asks_at_night_has_a_line() -> None:
    bar, *facts = shown(snapshot())
    assert bar.startswith("night    ━")
    assert bar.endswith("4/10  40%")
    assert facts == [
        "now      talk, turn 2, attempt 3, 17 tokens",
        "speed    81.2 tok/s now, 79.0 on average  KV 1,204 of 8,192",
        "memory   3.0 GiB in use, 4.0 GiB at the peak, 5.0 GiB in the process",
        "so far   4 finished, 1 retry, 1 failed or incomplete",
        "left     about 3:00, done at 23:53 (pace of the last 4 jobs)",
    ]


def test_a_job_that_somebody_cancelled_is_finished_and_no_failure() -> None:
    counts = {Status.DONE: 2, Status.CANCELLED: 2, Status.QUEUED: 6}
    drawn = replace(snapshot(replace(batch(), counts=counts)), waiting=6)
    assert "so far   4 finished, 1 retry, 0 failed or incomplete" in shown(drawn)
    assert "failed" not in summary_line(drawn, EVENING)


def test_jobs_with_rescued_answers_are_told_apart() -> None:
    drawn = snapshot(replace(batch(), rescued=2), replace(batch("other"), rescued=1))
    assert "so far   8 finished, 2 retries, 2 failed or incomplete, 3 with rescued answers" in (
        shown(drawn)
    )
    assert "8/14 jobs, 2 failed or incomplete, 3 with rescued answers, " in (
        summary_line(drawn, EVENING)
    )


def test_an_end_after_midnight_names_its_day() -> None:
    assert "about 15:00, done at Sat 00:05" in shown(replace(snapshot(), waiting=30))[-1]


def test_no_time_is_named_before_enough_is_known() -> None:
    early = snapshot(jobs=ENOUGH_JOBS - 1)
    assert seconds_left(early) is None
    assert shown(early)[-1] == "left     known once this run has finished 3 jobs"
    # too few are left for that
    assert not any(line.startswith("left") for line in shown(replace(early, waiting=1)))
    assert seconds_left(snapshot(jobs=ENOUGH_JOBS)) == 180.0


def test_without_jobs_that_wait_no_time_is_left_to_name() -> None:
    over = replace(snapshot(), waiting=0)
    assert seconds_left(over) is None
    assert not any(line.startswith("left") for line in shown(over))


def test_a_second_choice_and_the_answer_to_a_tool_are_told_apart() -> None:
    drawn = replace(snapshot(), attempting=(Attempting("x", AttemptKey(1, 2, 1, 1)),))
    assert "now      x, choice 2, turn 2.1" in shown(drawn)


def test_several_conversations_have_a_line_each_and_one_speed() -> None:
    talks = [Attempting(f"talk-{i}", AttemptKey(), 10 * i) for i in range(12)]
    drawn = replace(snapshot(), attempting=tuple(talks), tokens_per_second=200.0)
    facts = shown(drawn, height=30)[1:]
    assert facts[0] == "now      talk-0, turn 1, reading prompt"
    assert facts[9].strip() == "talk-9, turn 1, 90 tokens"
    assert facts[10].strip() == "and 2 more conversations"
    assert facts[11].startswith("speed    200.0 tok/s now")
    assert summary_line(drawn, EVENING).endswith(", 12 conversations at once")


def test_what_is_read_ahead_is_told_apart_from_what_is_in_a_slot() -> None:
    talks = [Attempting(f"talk-{i}", AttemptKey(), 10 * i) for i in range(2)]
    drawn = replace(snapshot(), attempting=tuple(talks), ahead=2)
    facts = shown(drawn, height=30)[1:]
    assert [fact.strip() for fact in facts[1:3]] == [
        "talk-1, turn 1, 10 tokens",
        "and 2 read ahead",
    ]
    assert summary_line(drawn, EVENING).endswith(", 2 conversations at once, 2 read ahead")
    many = replace(drawn, attempting=tuple(talks * 6))
    assert shown(many, height=30)[11].strip() == "and 2 more conversations, 2 read ahead"


def test_a_low_terminal_counts_the_conversations_that_it_has_no_line_for() -> None:
    talks = [Attempting(f"talk-{i}", AttemptKey(), 10) for i in range(6)]
    drawn = replace(snapshot(), attempting=tuple(talks))
    assert len(shown(drawn, height=12)) == 11
    assert [line[9:] for line in shown(drawn, height=11)[1:7]] == [
        *(f"talk-{i}, turn 1, 10 tokens" for i in range(4)),
        "and 2 more conversations",
        "81.2 tok/s now, 79.0 on average  KV 1,204 of 8,192",
    ]
    assert [line for line in shown(drawn, height=7) if "conv" in line or "talk-" in line] == [
        "now      talk-0, turn 1, 10 tokens"
    ]


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", ["path/" * 30, "問い" * 60, "👨‍👩‍👧" * 40])
def test_a_long_custom_id_leaves_room_for_what_changes(name: str, width: int) -> None:
    talk = Attempting(f"begin-{name}-end", AttemptKey(turn=2), 17)
    now = shown(replace(snapshot(), attempting=(talk,)), width)[1]
    assert now.startswith("now      begin-")
    assert now.endswith("-end, turn 2, 17 tokens")
    assert width - 8 <= cell_len(now) <= width
    waiting = shown(replace(snapshot(), attempting=(replace(talk, tokens=0),)), width)[1]
    assert waiting.partition(", turn")[0] == now.partition(", turn")[0]


def test_what_is_not_known_takes_no_line() -> None:
    assert shown(Snapshot()) == []


def test_a_last_job_does_not_show_as_all_of_them() -> None:
    bar, _ = shown(Snapshot(batches=(batch(done=999, failed=0, queued=1),)))
    assert bar.endswith("999/1,000  99%")


def test_more_batches_than_fit_are_counted() -> None:
    many = Snapshot(batches=tuple(batch(f"b{n}") for n in range(MAX_BARS + 3)))
    assert "and 3 more batches" in shown(many)


def test_a_low_terminal_keeps_what_matters_most() -> None:
    assert [line.split()[0] for line in shown(snapshot(), height=4)] == ["night", "now", "left"]
    assert [line.split()[0] for line in shown(snapshot(), height=2)] == ["night"]


def test_names_cannot_steer_the_terminal() -> None:
    nasty = replace(
        snapshot(batch("a\x1b[2Jb\nc")), attempting=(Attempting("\x9b2J\r\u202e", AttemptKey()),)
    )
    text = "".join(shown(nasty))
    assert text.isprintable()


@given(
    width=st.integers(0, 300),
    height=st.integers(0, 60),
    names=st.lists(st.text(max_size=30), max_size=9),
    custom_id=st.text(min_size=1),
)
def test_no_terminal_size_is_too_small(
    width: int, height: int, names: list[str], custom_id: str
) -> None:
    drawn = snapshot(*map(batch, names))
    drawn = replace(drawn, attempting=(Attempting(custom_id, AttemptKey()),), remark="a remark")
    found = lines(drawn, width, height, EVENING)
    assert len(found) <= max(1, height - 1)
    assert all(line.cell_len <= max(1, width) for line in found)


@pytest.mark.parametrize(
    ("drawn", "text"),
    [
        (Snapshot(), "0/0 jobs"),
        (
            snapshot(),
            "4/10 jobs, 1 failed or incomplete, 81 tok/s now, about 3:00 left, done at 23:53, "
            "talk, turn 2, attempt 3, 17 tokens",
        ),
        (
            replace(snapshot(), pace=Pace(0, 0.0, None), attempting=(), tokens_per_second=None),
            None,
        ),
    ],
)
def test_a_line_for_a_file_says_the_same(drawn: Snapshot, text: str | None) -> None:
    assert summary_line(drawn, EVENING) == (text or "4/10 jobs, 1 failed or incomplete")
