"""A death on Metal is reported with its cure; one by the display's watchdog does not count.

Untested on Metal: a scripted process says what MLX would.
"""

import asyncio
import io
import signal

import anyio
import pytest

from helpers.drained import ONE, TWO, Site
from helpers.made import claimed
from helpers.paths import HELPERS
from mh_batch.jobs.errors import ModelProcessDied
from mh_batch.jobs.generation import Generation, GenerationRequest
from mh_batch.jobs.status import Status
from mh_batch.worker.controller.conversation import ConversationRun, Generate
from mh_batch.worker.model_process import protocol
from mh_batch.worker.model_process.child.inbox import Inbox
from mh_batch.worker.model_process.child.server import ModelServer
from mh_batch.worker.model_process.death import Death
from mh_batch.worker.model_process.metal import OUT_OF_MEMORY, WATCHDOG, MetalFault, metal_fault
from mh_batch.worker.runtime.stop import EndReason

pytestmark = pytest.mark.anyio

FAILED = (
    "libc++abi: terminating due to uncaught exception of type std::runtime_error: [METAL] Command "
    "buffer execution failed: "
)
# as users reported them to MLX and to programs that use it
SAID: dict[str, MetalFault | None] = {
    f"{FAILED}Impacting Interactivity "
    "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)": WATCHDOG,
    f"{FAILED}Caused GPU Timeout Error "
    "(00000002:kIOGPUCommandBufferCallbackErrorTimeout)": WATCHDOG,
    f"{FAILED}Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)": OUT_OF_MEMORY,
    "RuntimeError: [metal::malloc] Attempting to allocate 18253611008 bytes which is greater than "
    "the maximum allowed buffer size of 17179869184 bytes.": OUT_OF_MEMORY,
    "RuntimeError: [malloc] Unable to allocate 1073741824 bytes.": OUT_OF_MEMORY,
    f"{FAILED}Caused GPU Address Fault Error "
    "(0000000b:kIOGPUCommandBufferCallbackErrorPageFault)": None,
    "mh-batch: no sign of life for 300 s: killed": None,
    "": None,
}
IMPACTING, TIMEOUT, MEMORY, *_ = SAID
DEATHS = "select phase, signal, forgiven from crashes order by id"


@pytest.mark.parametrize("said", SAID)
def test_what_metal_ends_a_process_for_is_known_by_its_last_words(said: str) -> None:
    found = metal_fault(f"loading\n{said}\nresource_tracker: leaked semaphore objects\n")
    assert found is SAID[said]


def test_of_several_faults_the_last_is_told() -> None:
    assert metal_fault(f"{TIMEOUT}\n{MEMORY}") is OUT_OF_MEMORY
    assert metal_fault(f"{MEMORY}\n{IMPACTING}") is WATCHDOG


def request() -> GenerationRequest:
    action = ConversationRun(claimed()).next()
    assert isinstance(action, Generate)
    return action.request


def test_a_death_is_told_with_what_helps_against_it() -> None:
    text = str(Death("decode", signal.SIGABRT, None, f"{IMPACTING}\n"))
    assert text.startswith("killed by SIGABRT (decode); libc++abi: terminating")
    assert text.endswith(f"; {WATCHDOG.message}: {WATCHDOG.cure}")
    assert "macOS" not in str(Death("decode", signal.SIGABRT, None, "something else"))


@pytest.mark.parametrize("said", [IMPACTING, MEMORY])
def test_a_fault_of_metal_that_python_sees_ends_the_process_as_an_abort_does(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Generation:
        raise RuntimeError(said)

    inbox = Inbox(io.BytesIO())
    asked = protocol.GenerateFrame(1, request())
    monkeypatch.setattr(inbox, "get", lambda: asked)
    monkeypatch.setattr(ModelServer, "_generate", fail)
    answered: list[bytes] = []
    with pytest.raises(RuntimeError, match=r"\[METAL\]"):
        ModelServer(inbox, answered.append).run()
    assert answered == []


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for a display that there is not."""
    monkeypatch.setattr("mh_batch.worker.draining.model.loader.WATCHDOG_SECONDS", 0.0)


@pytest.mark.usefixtures("no_pause")
async def test_a_death_by_the_watchdog_does_not_count_against_its_job(site: Site) -> None:
    site.submit(TWO, ONE)
    outcome = await site.drain(["watchdog"] * 5, max_crashes=1)
    assert outcome.tally.ended == {Status.DONE: 2}
    assert site.rows(DEATHS) == [("decode", 6, 1)] * 5
    assert site.rows("select attempt from attempts") == [(1,)] * 3
    assert site.notes.said.getvalue().count("let the display sleep") == 5


@pytest.mark.usefixtures("no_pause")
async def test_deaths_by_the_watchdog_without_end_count_at_last(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.worker.model_process.death.MOST_WATCHDOG_DEATHS", 2)
    site.submit(ONE, ONE)
    await site.drain(["watchdog"] * 4, max_crashes=2)
    assert site.rows("select status, error_code from jobs order by id") == [
        ("failed", "model_crashed"),
        ("done", None),
    ]
    assert [forgiven for *_, forgiven in site.rows(DEATHS)] == [1, 1, 0, 0]
    ((error,),) = site.rows("select error from jobs where status = 'failed'")
    assert "let the display sleep" in str(error)


@pytest.mark.usefixtures("no_pause")
async def test_an_answer_in_between_begins_the_count_of_them_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.worker.model_process.death.MOST_WATCHDOG_DEATHS", 1)
    site.submit(TWO)
    await site.drain(["watchdog", "answer", "watchdog"], max_crashes=1)
    assert site.rows("select status from jobs") == [("done",)]


@pytest.mark.usefixtures("no_pause")
async def test_a_test_prompt_that_the_watchdog_ends_is_sent_again(site: Site) -> None:
    site.submit(ONE, ONE, ONE, ONE)
    outcome = await site.drain(["die"] * 3 + ["watchdog"] * 3, max_crashes=1)
    assert outcome.tally.ended == {Status.FAILED: 3, Status.DONE: 1}
    said = site.notes.said.getvalue()
    assert said.count("on a test prompt, the model process died") == 3
    assert "the model answered, so the jobs are at fault" in said


@pytest.mark.usefixtures("no_pause")
async def test_a_test_prompt_that_the_watchdog_ends_again_and_again_ends_the_worker(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.worker.model_process.death.MOST_WATCHDOG_DEATHS", 2)
    site.submit(ONE, ONE, ONE, ONE)
    with pytest.raises(ModelProcessDied, match="let the display sleep"):
        await site.drain(["die"] * 3 + ["watchdog"] * 3, max_crashes=1)
    assert site.rows("select distinct status from jobs") == [("queued",)]


async def test_a_death_for_want_of_memory_counts_and_has_a_cure_of_its_own(site: Site) -> None:
    site.submit(ONE)
    await site.drain(["out_of_memory"], max_crashes=1)
    assert site.rows("select status, error_code from jobs") == [("failed", "model_crashed")]
    assert site.rows(DEATHS) == [("decode", 6, 0)]
    assert "close other programs" in site.notes.said.getvalue()


async def test_the_wait_for_the_display_is_told_and_a_stop_ends_it_at_once(site: Site) -> None:
    site.submit(ONE)
    # once the note is out, the wait has begun at the loop's next round
    site.notes.on_note = lambda text: (
        asyncio.get_running_loop().call_later(0.1, signal.raise_signal, signal.SIGINT)
        if "again in 60 s" in text
        else None
    )
    with anyio.fail_after(30):
        outcome = await site.drain(["watchdog"])
    assert outcome.reason is EndReason.STOPPED
    assert site.rows("select status from jobs") == [("queued",)]
    assert site.rows(DEATHS) == [("decode", 6, 1)]


@pytest.mark.usefixtures("no_pause")
async def test_a_load_that_the_watchdog_ends_waits_for_the_display_as_well(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.worker.draining.model.loader.WATCHDOG_SECONDS", 0.25)
    monkeypatch.setattr("mh_batch.worker.draining.model.loader.RELOAD_PAUSES", (0.0, 0.0))
    site.submit({"prompt": "x", "model": "watched"})
    assert (await site.drain()).exit_code == 0
    assert "trying again in 0.25 s" in site.notes.said.getvalue()


def test_the_script_says_what_mlx_would() -> None:
    child = (HELPERS / "scripted_child.py").read_text()
    assert IMPACTING.removeprefix(FAILED) in child.replace('"\n    "', "")
