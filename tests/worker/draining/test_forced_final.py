"""A drain counts and reports the jobs with forced final answers."""

import json
from contextlib import closing

import pytest

from helpers.command_line import mh_batch
from helpers.drained import ONE, TWO, Site
from mh_batch.store.connection import open_reader
from mh_batch.worker.draining.run import Outcome
from mh_batch.worker.progress.summary import summarize_run, wrap_up

FORCED = ["stuck", "stuck", "answer"]
"""An answer whose last attempt is a forced final."""


def summary(site: Site, outcome: Outcome) -> list[str]:
    """What the end of the drain says."""
    with closing(open_reader(site.db_path)) as reader:
        return list(wrap_up(summarize_run(outcome, reader, ""), results=True))


@pytest.mark.anyio
async def test_jobs_with_rescued_answers_are_counted_as_they_end(site: Site) -> None:
    site.submit(ONE, ONE, ONE)
    outcome = await site.drain([*FORCED, "answer", *FORCED])
    assert outcome.exit_code == 0
    assert outcome.tally.rescued == 2
    first, *others = summary(site, outcome)
    assert first == "queue empty: 3 done, of them 2 with rescued answers"
    assert any("`mh-batch results 1 --rescued only`" in line for line in others)
    assert site.rows("select rescued from batches") == [(2,)]


@pytest.mark.anyio
async def test_a_rescued_answer_of_an_earlier_worker_counts_for_the_one_that_ends_the_job(
    site: Site,
) -> None:
    site.submit(TWO)
    outcome = await site.drain([*FORCED, "die", "die"])
    assert (outcome.exit_code, outcome.tally.rescued) == (1, 0)
    assert site.rows("select rescued from batches") == [(0,)]
    site.retry("1")
    outcome = await site.drain(["answer"])
    assert (outcome.exit_code, outcome.tally.rescued) == (0, 1)
    assert site.rows("select rescued from batches") == [(1,)]


@pytest.mark.anyio
async def test_a_drain_without_rescued_answers_does_not_mention_them(site: Site) -> None:
    site.submit(ONE)
    outcome = await site.drain()
    assert summary(site, outcome)[0] == "queue empty: 1 done"
    assert not any("rescued" in line for line in summary(site, outcome))


@pytest.mark.anyio
async def test_a_drain_whose_attempts_mostly_ran_out_of_tokens_says_which_setting_gives_more(
    site: Site,
) -> None:
    site.submit(ONE, ONE, max_tokens=20, max_attempts=2)
    outcome = await site.drain(["length"] * 8)
    assert "4 of 4 attempts were refused for length: max_tokens=20 with max_attempts=2" in (
        "\n".join(summary(site, outcome))
    )
    site.submit(ONE, TWO, max_tokens=30)
    outcome = await site.drain(["length", "answer", "answer"])
    assert not any("refused for length" in line for line in summary(site, outcome))


@pytest.mark.anyio
async def test_every_command_that_counts_jobs_counts_them(site: Site) -> None:
    site.submit(ONE, ONE)
    await site.drain([*FORCED, "answer"])
    folder = site.folder
    columns, row = (line.split() for line in mh_batch(folder, "status").stdout.splitlines())
    assert (columns[:5], row[:5]) == (["batch", "name", "jobs", "done", "rescued"], [*"1b221"])
    (report,) = json.loads(mh_batch(folder, "status", "--json").stdout)
    assert (report["counts"]["done"], report["rescued"]) == (2, 1)
    assert mh_batch(folder, "status", "--watch").stdout == "2/2 jobs, 1 with rescued answers\n"
    assert "2 done, of them 1 with rescued answers" in mh_batch(folder, "timings").stdout
    numbers = json.loads(mh_batch(folder, "timings", "--json").stdout)
    assert (numbers["done"], numbers["rescued"]) == (2, 1)
    page = mh_batch(folder, "report", "-o", "-").stdout
    assert "of them 1 with rescued answers" in page
    assert page.count('<span class="kind bad">done with a rescued answer, one of 1</span>') == 1
    assert "· done · rescued" in mh_batch(folder, "show", "1").stdout
    assert "rescued" not in mh_batch(folder, "show", "2").stdout
