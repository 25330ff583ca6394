"""What an attempt leaves beside the log: names, contents, and that files are whole or not there."""

import json
import os
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.made import claimed, generation
from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.jobs.files import make_folder
from mh_batch.jobs.generation import Generation, RenderedPrompt
from mh_batch.jobs.record import Attempt, AttemptKey, Verdict
from mh_batch.jobs.settings import Sampling
from mh_batch.worker.draining.artifacts import (
    File,
    files,
    folder,
    key_name,
    should_keep,
    stripped,
    write,
)

SHOWN = RenderedPrompt((5, 6), "<|start|>user…")


def attempt(
    key: AttemptKey | None = None,
    verdict: Verdict = Verdict.ACCEPT,
    made: Generation | None = None,
) -> Attempt:
    reason = None if verdict is Verdict.ACCEPT else "malformed"
    made = made or generation(" four ")
    return Attempt(key or AttemptKey(), verdict, reason, 99, Sampling(), made, round=1)


def test_an_attempt_has_its_prompt_its_completion_its_parse_and_what_was_decided() -> None:
    made = msgspec.structs.replace(generation(" four ", problems=("junk_header",)), rendered=SHOWN)
    made_files = dict(files(attempt(AttemptKey(0, 2), Verdict.RETRY, made), "be brief", 3))
    assert {name for name in made_files if name.endswith(".txt")} == {
        "prompt.full.2.1.txt",
        "completion.raw.2.1.txt",
        "completion.cleaned.2.1.txt",
    }
    assert made_files["prompt.full.2.1.txt"].decode() == SHOWN.text
    assert msgspec.json.decode(made_files["prompt.tokens.2.1.json"]) == [5, 6]
    assert msgspec.json.decode(made_files["completion.tokens.2.1.json"]) == [1, 2, 3]
    assert made_files["completion.raw.2.1.txt"] == b"raw"
    assert made_files["completion.cleaned.2.1.txt"] == b"four"
    parsed = msgspec.json.decode(made_files["parse.channels.2.1.json"])
    assert [channel["channel"] for channel in parsed["channels"]] == ["analysis", "final"]
    decision = msgspec.json.decode(made_files["retry.decision.2.1.json"])
    assert decision["sampling"] == json.loads(msgspec.json.encode(Sampling()))
    del decision["sampling"]
    assert decision == {
        "verdict": "retry",
        "reason": "malformed",
        "problems": ["junk_header"],
        "stop_reason": "stop_token",
        "attempt": 1,
        "max_attempts": 3,
        "round": 1,
        "rescued": False,
        "continues": False,
        "guidance": "be brief",
        "seed": 99,
        "rejected": None,
    }


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (AttemptKey(0, 1, 0, 1), "1.1"),
        (AttemptKey(0, 2, 0, 3), "2.3"),
        (AttemptKey(0, 2, 1, 3), "2.1.3"),
        (AttemptKey(1, 2, 0, 3), "c1-2.3"),
        (AttemptKey(1, 2, 1, 3), "c1-2.1.3"),
    ],
)
def test_a_place_is_written_without_its_first_choice_and_first_step(
    key: AttemptKey, name: str
) -> None:
    assert key_name(key) == name


PLACES = st.builds(
    AttemptKey, st.integers(0, 30), st.integers(1, 30), st.integers(0, 30), st.integers(1, 30)
)


@given(PLACES, PLACES)
def test_two_places_never_share_a_name(one: AttemptKey, other: AttemptKey) -> None:
    assert (key_name(one) == key_name(other)) == (one == other)


def test_the_files_of_a_job_lie_under_row_numbers_only() -> None:
    job = msgspec.structs.replace(claimed(), id=7, batch_id=3, custom_id="../../etc/passwd")
    assert folder(Path("logs"), job) == Path("logs/3/7")


def test_retries_keeps_failed_attempts_and_those_after_them() -> None:
    first, second = AttemptKey(attempt=1), AttemptKey(attempt=2)
    assert not should_keep("retries", attempt(first))
    assert should_keep("retries", attempt(first, Verdict.RETRY))
    assert should_keep("retries", attempt(second))
    assert should_keep("all", attempt(first))
    assert not should_keep("off", attempt(second, Verdict.GIVE_UP))


def test_control_tokens_are_cleaned_from_a_damaged_answer_and_left_where_they_are_its_text() -> (
    None
):
    text = " The token <|start|> opens a message.\n"
    assert stripped(generation(text)) == text.strip()
    damaged = generation("<|im_end|>4</s>", problems=("control_in_content",))
    assert stripped(damaged) == "4"
    assert stripped(generation(None, problems=("truncated",))) == ""


def test_what_an_unfinished_write_left_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    target = tmp_path / "logs" / "1" / "1"
    make_folder(target)
    (target / ".a.txt.partial").write_text("half of an earl")
    write(target, [File("a.txt", b"old")])
    write(target, [File("a.txt", b"new")])
    assert [(path.name, path.read_bytes()) for path in target.iterdir()] == [("a.txt", b"new")]


def test_a_file_that_cannot_be_written_whole_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentFault, match=r"No space left on device; .*not recorded"):
        write(tmp_path, [File("a.txt", b"x")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mask", "mode"), [(0o000, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_the_umask_is_respected_and_nothing_is_writable_for_everyone(
    tmp_path: Path, mask: int, mode: int
) -> None:
    target = tmp_path / "logs" / "1" / "1"
    before = os.umask(mask)
    try:
        write(target, [File("a.txt", b"x")])
    finally:
        os.umask(before)
    assert stat.S_IMODE((target / "a.txt").stat().st_mode) == mode
    for made in (target, target.parent, target.parent.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o775 & ~mask
