"""What a finished drain says."""

from msgspec.structs import replace

from mh_batch.jobs.errors import ModelNotLoaded
from mh_batch.jobs.status import Status
from mh_batch.store.reports.progress import Reason
from mh_batch.worker.progress.summary import (
    LONGEST_REPEATED,
    SHOWN_BATCHES,
    SHOWN_REASONS,
    RunSummary,
    brief,
    wrap_up,
)

GOOD = RunSummary(
    why="queue empty",
    stopped=False,
    ended={Status.DONE: 1},
    batches=(7,),
    reasons=(),
    tokens=1,
    speed=2.0,
    seconds=75.0,
)


def said(summary: RunSummary, *, results: bool = True) -> list[str]:
    return list(wrap_up(summary, results=results))


def changed(**values: object) -> RunSummary:
    return replace(GOOD, **values)


def test_a_night_that_went_well_says_where_the_answers_are() -> None:
    assert said(GOOD) == [
        "queue empty: 1 done",
        "1 token at 2 tok/s, 1:15 in all",
        "the answers: `mh-batch results 7 -o FILE`",
    ]


def test_a_command_that_writes_the_answers_itself_does_not_tell_how() -> None:
    assert not any("results" in line for line in said(GOOD, results=False))


def test_what_went_wrong_is_counted_and_can_be_looked_at() -> None:
    summary = changed(
        ended={Status.DONE: 1200, Status.INCOMPLETE: 1, Status.FAILED: 2},
        reasons=(
            Reason(Status.FAILED, "prompt_too_long", 2, 31, "q-31"),
            Reason(Status.INCOMPLETE, "length", 1, 12, "q-\x1b12"),
        ),
        options=" --db other.db",
    )
    assert said(summary)[:1] + said(summary)[2:] == [
        "queue empty: 1,200 done, 1 incomplete, 2 failed",
        "  2 jobs failed: prompt_too_long (the first is q-31)",
        "  1 job incomplete: length (the first is q-\\x1b12)",
        "what became of one: `mh-batch show 31 --db other.db --attempts`",
        "all of them: `mh-batch results 7 --db other.db --status failed,incomplete`",
        "the answers: `mh-batch results 7 --db other.db -o FILE`",
    ]


def test_jobs_that_are_done_with_rescued_answers_are_told_apart() -> None:
    summary = changed(ended={Status.DONE: 5}, rescued=5, options=" --db other.db")
    first, *_, last = said(summary, results=False)
    assert first == "queue empty: 5 done, of them 5 with rescued answers"
    assert last == (
        "rescued: the answer was forced from unfinished thoughts; "
        "`mh-batch results 7 --db other.db --rescued only` writes these"
    )
    mixed = changed(ended={Status.DONE: 1200, Status.FAILED: 1}, rescued=1001)
    assert said(mixed)[0] == (
        "queue empty: 1,200 done, of them 1,001 with rescued answers; 1 failed"
    )


def test_a_setting_to_change_is_told_before_the_answers() -> None:
    assert said(changed(advice="raise it"))[2:] == [
        "raise it",
        "the answers: `mh-batch results 7 -o FILE`",
    ]


def test_many_reasons_and_batches_do_not_fill_the_screen() -> None:
    reasons = [Reason(Status.FAILED, f"e{n}", 1, n, "x") for n in range(SHOWN_REASONS + 2)]
    summary = changed(reasons=reasons, batches=range(1, SHOWN_BATCHES + 2))
    lines = said(summary)
    assert "  2 jobs for other reasons" in lines
    assert lines[-1] == "and of 1 more batch"


def test_an_empty_queue_and_a_stop_before_the_first_job_say_so() -> None:
    nothing = {"ended": {}, "batches": (), "tokens": 0, "speed": None}
    assert said(changed(**nothing)) == ["queue empty: nothing to do"]
    assert said(changed(why="stopped", stopped=True, **nothing)) == [
        "stopped: no job was finished",
        "`mh-batch work` goes on where this stopped",
    ]


def test_a_drain_that_cannot_go_on_says_what_it_did_and_what_stays_queued_and_why() -> None:
    ended = changed(why="ended early", left=1, fault="m: no such folder")
    assert said(ended) == [
        "ended early: 1 done",
        "1 token at 2 tok/s, 1:15 in all",
        "the answers: `mh-batch results 7 -o FILE`",
        "mh-batch: 1 job stays queued: m: no such folder",
    ]
    nothing = replace(ended, ended={}, batches=(), tokens=0, left=1200)
    assert said(nothing) == [
        "ended early: no job was finished",
        "mh-batch: 1,200 jobs stay queued: m: no such folder",
    ]


def test_a_long_reason_that_was_shown_already_is_not_shown_whole_again() -> None:
    fault = ModelNotLoaded("a/b: no such folder, and could not be downloaded: " + "x: " * 100)
    assert brief(fault) == str(fault)
    fault.noted = True
    assert brief(fault) == ("a/b: no such folder, and could not be downloaded (all of it is above)")
    short = ModelNotLoaded("y" * LONGEST_REPEATED)
    short.noted = True
    assert brief(short) == str(short)


def test_deaths_of_the_model_and_what_is_left_are_told() -> None:
    lines = said(changed(why="stopped", stopped=True, deaths=2, left=1200, options=" --db a.db"))
    assert lines[0] == "stopped: 1 done; 1,200 jobs left in the queue"
    assert "the model died 2 times: `mh-batch query --db a.db --recipe crashes`" in lines
