"""A chat template that never ends costs the jobs that it never ends on, and no other."""

import anyio
import pytest

from helpers.drained import ONE, Site
from helpers.native_model import ENDLESS, ENDLESS_ON_ONE, NEVER, native_model
from mh_batch.jobs.errors import ModelNotLoaded
from mh_batch.worker.draining.run import work
from mh_batch.worker.model_process.client import COMMAND
from mh_batch.worker.options import DrainOptions

pytestmark = pytest.mark.anyio

ENDS = "select custom_id, status, error_code from jobs order by id"
DEATHS = "select j.custom_id, c.phase, c.signal from crashes c join jobs j on j.id = c.job_id"


async def drain(site: Site, **values: object) -> None:
    """Drain with the real model process."""
    logs = site.folder / "logs"
    options = DrainOptions(site.db_path, "demo", logs, artifacts="off", **values)  # type: ignore[arg-type]
    with anyio.fail_after(100):
        await work(options, site.notes, COMMAND)


async def test_a_conversation_whose_template_never_ends_is_failed_and_no_neighbour_is_blamed(
    site: Site,
) -> None:
    model = str(native_model(site.folder / "model", ENDLESS_ON_ONE))
    site.submit(
        # each further turn is asked for while the next job's prompt is being rendered for ever
        {"custom_id": "before", "turns": ["a", "b", "c"], "model": model},
        {"custom_id": "endless", "prompt": NEVER, "model": model},
        {"custom_id": "after", "prompt": "d", "model": model},
        max_tokens=4,
        max_attempts=1,
    )
    await drain(site, hang_seconds=3.0, max_crashes=2)
    before, endless, after = site.rows(ENDS)
    assert endless == ("endless", "failed", "model_crashed")
    # what random weights say is nothing, but it was said
    assert {before[1], after[1]} <= {"done", "incomplete"}
    assert site.rows(DEATHS) == [("endless", "render", 9)] * 2
    reason = "%no sign of life%the chat template may never end%"
    assert site.rows(f"select distinct stderr_tail like '{reason}' from crashes") == [(1,)]


async def test_a_template_that_never_ends_at_all_leaves_its_jobs_and_holds_up_no_others(
    site: Site,
) -> None:
    model = str(native_model(site.folder / "model", ENDLESS))
    site.submit({"prompt": "a", "model": model}, {"custom_id": "b", **ONE}, max_tokens=16)
    with pytest.raises(ModelNotLoaded, match=r"chat template: .*no sign of life for 3 s"):
        await drain(site, hang_seconds=3.0)
    assert site.rows("select status from jobs order by id")[0] == ("queued",)
    assert site.rows("select status from jobs order by id")[1] != ("queued",)
    # a template is the same the next time
    assert site.notes.said.getvalue().count(f"loading {model}") == 1
