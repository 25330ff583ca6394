"""What a person sees while a drain runs."""

import io

import pytest
from made import claimed
from rich.console import Console

from mh_batch.jobs.record import JobEnd, Place
from mh_batch.jobs.status import Status
from mh_batch.worker.display import LiveDisplay, PlainDisplay, duration
from mh_batch.worker.drain import Tally

DONE = JobEnd(Status.DONE)
FAILED = JobEnd(Status.FAILED, "prompt_too_long", "9 tokens do not fit into 5")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (42.4, "0:42"), (300, "5:00"), (754, "12:34"), (3900, "1:05:00")],
)
def test_a_duration_reads_as_people_write_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plain_lines_tell_of_what_went_wrong_and_of_the_end() -> None:
    out = io.StringIO()
    with PlainDisplay(out) as display:
        display.note("loading demo")
        tally = Tally({Status.DONE: 1}, decoded_tokens=100, decode_seconds=2.0)
        display.job_ended(claimed(), DONE, tally, 1)
        tally.ended[Status.FAILED] = 1
        display.job_ended(claimed(), FAILED, tally, 0)
    assert out.getvalue().splitlines() == [
        "loading demo",
        "c: failed (prompt_too_long): 9 tokens do not fit into 5",
        "2/2 jobs, 50 tok/s, 0:00 left, 1 failed or incomplete",
    ]


def test_the_live_line_shows_progress_and_the_running_attempt() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with LiveDisplay(console) as display:
        display.note("loading demo")
        tally = Tally({Status.DONE: 1}, decoded_tokens=100, decode_seconds=2.0)
        display.job_ended(claimed(), DONE, tally, 3)
        display.attempt_started(claimed(), Place(turn=2, attempt=3))
        display.tokens(17)
        display.note("a note")
        shown = out.getvalue()
    assert "loading demo" in shown
    assert "1/4 jobs, 50 tok/s" in shown
    assert "c turn 2 attempt 3, 17 tokens" in shown
    # the last line stays as a summary, without an attempt that is over
    assert "turn 2" not in out.getvalue().splitlines()[-1]
