"""`mh-batch report`: one page that needs nothing else, whatever a conversation holds."""

import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from helpers.command_line import mh_batch
from helpers.html import Page
from helpers.queries import query
from mh_batch.jobs.conversation import FunctionCall, Message, Request, ToolCall
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.generation import Channel
from mh_batch.jobs.settings import Settings, apply
from mh_batch.store.connection import open_reader
from mh_batch.store.lookup import latest_batch
from mh_batch.store.reports.batch_page import ModelSlots
from mh_batch.store.reports.batch_page import batch_page as collect
from mh_batch.store.reports.results import finished_job
from mh_batch.worker.output.pages.passages import MOST_CHARACTERS, SHOWN_ENDS, conversation
from mh_batch.worker.output.pages.report import mixed, together, write_report
from mh_batch.worker.output.pages.report import page as page_of
from mh_batch.worker.output.pages.settings import settings_rows
from mh_batch.worker.text.escape import escape_controls

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome", "chromium-browser")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def html(night: Path) -> str:
    mh_batch(night, "report", "-o", "report.html")
    return (night / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_is_of_the_latest_batch_and_in_balance(page: Page) -> None:
    assert page.open == []
    assert "batch 2 from trouble.jsonl" in page.text
    assert "done 50%" in page.text
    assert "incomplete 25%" in page.text


def test_the_page_shows_the_figures_that_the_database_holds(night: Path, page: Page) -> None:
    sql = """
    SELECT count(*), sum(completion_tokens), sum(prompt_tokens)
    FROM attempts JOIN jobs ON jobs.id = job_id WHERE batch_id = 2
    """
    ((attempts, generated, prompted),) = query(night / "mh-batch.db", sql)[1]
    for figure in (f"{attempts} attempts", f"{generated} generated", f"{prompted} in prompts"):
        assert figure in page.text
    for words in ("prompt_too_long", "too-long", "command buffer <lost>", "max_tokens", "cpu"):
        assert words in page.text
    ((fingerprint,), *_) = query(night / "mh-batch.db", "SELECT fingerprint FROM batch_models")[1]
    assert fingerprint[:16] in page.text


def test_the_four_pictures_are_in_the_page(page: Page) -> None:
    titles = [value for name, value in page.attributes if name == "aria-label"]
    assert len(titles) == 4
    assert {"svg", "polyline", "rect", "text"} <= page.tags


def test_the_page_fetches_and_runs_nothing(html: str, page: Page) -> None:
    assert "script" not in page.tags
    fetched = {value for name, value in page.attributes if name in ("src", "href")}
    assert fetched == {"data:,"}
    assert not re.search(r"url\(|@import|https?://", html)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "default-src 'none'" in html


def test_what_a_conversation_holds_stays_text(html: str, page: Page) -> None:
    assert "<script>alert('x')</script> \\x1b[31mred\\x07 & \\u202eback" in page.text
    assert "<script" not in html
    assert not set("\x1b\x07\u202e") & set(html)


def test_another_batch_can_be_named_and_go_to_standard_output(night: Path) -> None:
    text = Page(mh_batch(night, "report", "example", "-o", "-").stdout).text
    assert "batch 1 from" in text
    assert "None failed" in text
    assert "3 conversations" in text
    assert "17 + 25 = 42" in text


def test_a_batch_without_any_attempt_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "Hello"}\n')
    mh_batch(tmp_path, "submit", "in.jsonl")
    page = Page(mh_batch(tmp_path, "report", "-o", "-").stdout)
    assert "queued 100%" in page.text
    assert "No attempt yet" in page.text


def test_a_report_never_overwrites_the_database(night: Path) -> None:
    before = (night / "mh-batch.db").read_bytes()
    with closing(open_reader(night / "mh-batch.db")) as reader:
        for name in ("mh-batch.db", "mh-batch.db-wal", "mh-batch.db.lock"):
            with pytest.raises(InputError, match="the page would overwrite it"):
                write_report(reader, [], str(night / name))
    assert (night / "mh-batch.db").read_bytes() == before


def test_long_texts_are_cut_and_the_page_says_where_the_rest_is(night: Path) -> None:
    long = Message("user", "x" * (MOST_CHARACTERS + 7))
    with closing(open_reader(night / "mh-batch.db")) as reader:
        found = collect(reader, latest_batch(reader))
    (one, *_) = found.samples
    job = one.job
    cut = replace(job, request=Request((long,)), turns=())
    (said,) = conversation(cut)
    assert (len(said.text), said.more, said.is_thought) == (MOST_CHARACTERS, 7, False)
    sample = replace(one, job=cut)
    text = Page(page_of(replace(found, samples=(sample,)), "2026-01-02T03:04:05.000Z")).text
    assert f"and 7 more characters: mh-batch show {job.id}" in text


def test_the_middle_of_a_long_conversation_is_left_out_and_counted(night: Path) -> None:
    with closing(open_reader(night / "mh-batch.db")) as reader:
        found = collect(reader, latest_batch(reader))
    one = found.samples[0]
    job = one.job
    messages = [Message("user", f"said {number:02}") for number in range(2 * SHOWN_ENDS + 3)]

    def shown(count: int) -> str:
        cut = replace(job, request=Request(tuple(messages[:count])), turns=())
        samples = (replace(one, job=cut),)
        return page_of(replace(found, samples=samples), "2026-01-02T03:04:05.000Z")

    whole, long = shown(2 * SHOWN_ENDS), shown(len(messages))
    assert "left out" not in whole
    left = [number for number in range(len(messages)) if f"said {number:02}" not in long]
    assert left == [SHOWN_ENDS, SHOWN_ENDS + 1, SHOWN_ENDS + 2]
    assert (
        f"3 texts of 21 characters left out here: mh-batch show {job.id} and "
        f"mh-batch results {found.batch.id} have the rest"
    ) in Page(long).text


def test_a_call_its_result_and_earlier_thoughts_are_part_of_a_conversation(night: Path) -> None:
    call = ToolCall("call_1", FunctionCall("clock", "{}"))
    context = (
        Message("system", "Be brief."),
        Message("assistant", thinking="Look it up.", tool_calls=(call,)),
        Message("tool", "noon", name="clock", tool_call_id="call_1"),
    )
    with closing(open_reader(night / "mh-batch.db")) as reader:
        job = finished_job(reader, 1)
    said = list(conversation(replace(job, request=Request(context), turns=())))
    assert [(s.who, s.text, s.is_thought) for s in said] == [
        ("system", "Be brief.", False),
        ("assistant, analysis", "Look it up.", True),
        ("assistant calls clock", "{}", False),
        ("tool clock", "noon", False),
    ]


def test_settings_that_were_changed_come_first() -> None:
    rows = settings_rows(
        '{"sampling": {"temperature": 1.0, "stop": [], "max_tokens": 7}, "seed": 0}'
    )
    assert [(row.name, row.changed) for row in rows] == [
        ("max_tokens", True),
        ("temperature", False),
        ("stop", False),
        ("seed", False),
    ]


@given(st.text())
def test_no_control_character_is_left_in_what_is_shown(text: str) -> None:
    shown = escape_controls(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in shown)
    assert escape_controls(shown) == shown


@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_page_without_complaint(night: Path, html: str, width: int) -> None:
    assert BROWSER is not None
    assert html
    url = (night / "report.html").as_uri()
    size = f"--window-size={width},2000"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", size]
    done = subprocess.run(
        [BROWSER, *flags, "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    assert Page(done.stdout).text.count("trouble") >= 2


def test_a_batch_that_went_on_with_another_number_of_slots_says_so(night: Path) -> None:
    with closing(open_reader(night / "mh-batch.db")) as reader:
        found = collect(reader, latest_batch(reader))
    (model,) = found.models
    assert found.slots == (ModelSlots(model.model, 1),)
    slots = (*(ModelSlots(model.model, number) for number in (8, 2)), ModelSlots("other", 4))
    assert mixed(slots) == {model.model: "8, then 2"}
    text = Page(page_of(replace(found, slots=slots), "2026-05-01")).text
    assert "; answered with 8, then 2 conversations at once (work --mix)" in text


def test_a_run_says_how_many_conversations_it_decoded_at_once(night: Path) -> None:
    with closing(open_reader(night / "mh-batch.db")) as reader:
        found = collect(reader, latest_batch(reader))
    (run,) = found.runs
    assert (run.slots, run.rows, together(run)) == (1, 1.0, "")
    several = replace(run, parallel=8, slots=8, rows=6.25)
    assert together(several) == "8 slots, 6.2 busy on average"
    other = replace(several, parallel=2, most_rows=4, allow_variance=1)
    assert together(other) == (
        "8 slots (the worker had 2), 6.2 busy on average, after crashes at most 4 at once, "
        "although the self-test of the model failed"
    )
    text = Page(page_of(replace(found, runs=(other,)), "2026-05-01")).text
    assert "--mix" not in text
    assert f"; {together(other)}" in text
    assert "beside others" not in text
    crashes = tuple(replace(crash, alone=0) for crash in found.crashes)
    assert "beside others" in Page(page_of(replace(found, crashes=crashes), "2026-05-01")).text


def test_a_form_is_one_setting_of_the_page() -> None:
    schema = {"type": "json_schema", "json_schema": {"schema": {"sampling": {"a": 1}}}}
    settings = apply(Settings(), {"response_format": schema})
    rows = settings_rows(msgspec.json.encode(settings).decode())
    (changed,) = [row for row in rows if row.changed]
    assert changed.name == "response_format"
    assert '"schema":{"sampling":{"a":1}}' in changed.value


def test_a_sample_in_json_is_indented(night: Path) -> None:
    with closing(open_reader(night / "mh-batch.db")) as db:
        job = finished_job(db, 1)
    (first, *_) = job.turns
    channels = (Channel("final", '{"a":1}'),)
    in_json = replace(first, parse=replace(first.parse, channels=channels), parsed='{"a":1}')
    (*_, answer) = conversation(replace(job, turns=(in_json,)))
    assert (answer.who, answer.text) == ("assistant, final", '{\n  "a": 1\n}')
