"""Attempts that ran out of tokens are reported with the setting to change."""

import pytest
from msgspec.structs import replace

from helpers.store_samples import attempt
from mh_batch.jobs.record import AttemptKey, Verdict
from mh_batch.jobs.settings import Settings, apply
from mh_batch.worker.draining.length_advice import LengthRefusals

SETTINGS = apply(Settings(), {"max_tokens": 20})


def room(refused: int, good: int, used: int = 20) -> LengthRefusals:
    """What is known after so many attempts, the refused ones with `used` tokens of room."""
    found = LengthRefusals()
    for number in range(refused + good):
        verdict = Verdict.RETRY if number < refused else Verdict.ACCEPT
        made = attempt(AttemptKey(attempt=number + 1), verdict)
        sampling = replace(made.sampling, max_tokens=used)
        found.take(replace(made, sampling=sampling), SETTINGS)
    return found


def test_more_than_half_refused_for_length_is_told_with_the_setting_to_change() -> None:
    assert room(20, 10).advice(" --db x.db") == (
        "20 of 30 attempts were refused for length: max_tokens=20 with max_attempts=3 is too small "
        "for these answers; try `mh-batch retry BATCH --db x.db --set max_tokens=80`"
    )


def test_one_attempt_was_refused() -> None:
    assert (room(1, 0).advice() or "").startswith("1 of 1 attempt was refused for length: ")


@pytest.mark.parametrize(("refused", "good"), [(0, 0), (0, 5), (5, 5), (1, 1)])
def test_up_to_half_is_what_retries_are_for(refused: int, good: int) -> None:
    assert room(refused, good).advice() is None


def test_where_the_context_was_full_other_settings_help() -> None:
    advice = room(2, 1, used=19).advice()
    assert advice is not None
    assert "history_tokens" in advice
    assert "--set" not in advice


def test_what_was_refused_for_another_reason_needs_no_room() -> None:
    found = LengthRefusals()
    for _ in range(3):
        found.take(
            replace(attempt(AttemptKey(), Verdict.RETRY), retry_reason="malformed"), SETTINGS
        )
    assert found.advice() is None


def test_a_form_without_room_counts_as_length() -> None:
    found = LengthRefusals()
    refused = replace(attempt(AttemptKey(), Verdict.RETRY), retry_reason="incomplete_form")
    found.take(refused, SETTINGS)
    assert (found.advice() or "").startswith("1 of 1 attempt was refused for length: ")


def test_an_attempt_that_went_on_where_it_was_cut_is_refused_only_if_that_was_cut_too() -> None:
    first = attempt(AttemptKey(), Verdict.RETRY)
    cut = replace(first, key=AttemptKey(attempt=2), continues=True)
    done = replace(cut, verdict=Verdict.ACCEPT, retry_reason=None)
    for rest, expected in ((cut, (1, 1)), (done, (1, 0))):
        found = LengthRefusals()
        found.take(first, SETTINGS)
        found.take(rest, SETTINGS)
        assert (found.attempts, found.refused) == expected
