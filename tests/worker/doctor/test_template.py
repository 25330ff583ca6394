"""The doctor renders a conversation, so that a template that fails shows before the night."""

import sys
from pathlib import Path

import pytest

from helpers.native_model import (
    ENDLESS,
    ENDLESS_ON_ONE,
    FAILS,
    FAILS_ON_ANSWERS,
    native_model,
)
from helpers.small_models import CHATML
from mh_batch.worker.doctor import template as check
from mh_batch.worker.doctor.examine import CHECKS
from mh_batch.worker.doctor.finding import Finding, Severity, Site
from mh_batch.worker.doctor.template import RenderResult, judge_template, template
from mh_batch.worker.options import WorkerSettings

OK, WARNING, FAILURE = Severity


def found_by(tmp_path: Path, model: str | None) -> list[Finding]:
    return list(template(Site(tmp_path / "mh-batch.db", tmp_path / "logs", model)))


def of_template(tmp_path: Path, text: str) -> Finding:
    """What is found of a model with this template."""
    (found,) = found_by(tmp_path, str(native_model(tmp_path / "model", text)))
    return found


def test_gpt_oss_is_rendered_by_its_own_format(tmp_path: Path) -> None:
    (found,) = found_by(tmp_path, "demo")
    assert found.verdict is OK
    assert "a short conversation is rendered, " in found.text


def test_a_template_that_works_is_told_with_the_length_of_what_it_made(tmp_path: Path) -> None:
    assert of_template(tmp_path, CHATML).verdict is OK
    # no weights are needed for that
    (tmp_path / "model" / "model.safetensors").unlink()
    (found,) = found_by(tmp_path, str(tmp_path / "model"))
    assert found.verdict is OK


def test_a_template_that_fails_is_a_failure_with_a_cure(tmp_path: Path) -> None:
    found = of_template(tmp_path, FAILS)
    assert found.verdict is FAILURE
    assert "no_such_thing" in found.text
    assert "chat_template.jinja" in (found.cure or "")


def test_a_template_that_takes_no_second_turn_is_a_warning(tmp_path: Path) -> None:
    found = of_template(tmp_path, FAILS_ON_ANSWERS)
    assert found.verdict is WARNING
    assert "two turns" in found.text
    assert "one turn" in found.text


@pytest.mark.parametrize("text", [ENDLESS, ENDLESS_ON_ONE.replace("'never'", "'What is 2 + 3?'")])
def test_a_template_that_never_ends_is_a_failure_once_the_time_is_up(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "SETTINGS", WorkerSettings(hang_seconds=2.0))
    found = of_template(tmp_path, text)
    assert found.verdict is FAILURE
    assert "no sign of life for 2 s" in found.text


def test_a_process_that_cannot_even_start_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path / "mh-batch.db", tmp_path, "demo")
    (found,) = template(site, (sys.executable, "-c", "raise SystemExit('no mlx here')"))
    assert found.verdict is FAILURE
    assert "no mlx here" in found.text


def test_a_model_that_is_not_here_is_left_to_the_check_of_its_folder(tmp_path: Path) -> None:
    assert found_by(tmp_path, None) == []
    assert found_by(tmp_path, "./nowhere") == []
    assert template in CHECKS


def test_what_cannot_be_rendered_weighs_more_than_what_can() -> None:
    well, bad = RenderResult(9), RenderResult(fault="broken")
    verdicts = [judge_template(found).verdict for found in ([well, well], [well, bad], [bad])]
    assert verdicts == [OK, WARNING, FAILURE]
