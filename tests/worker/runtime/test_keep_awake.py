"""A Mac is kept awake, any other machine is left alone."""

import sys

import pytest

from mh_batch.worker.runtime.keep_awake import NOTE, caffeinate, keep_awake


def test_on_a_mac_caffeinate_waits_for_the_worker_to_end() -> None:
    command = caffeinate("darwin", 42, "/usr/bin/caffeinate")
    assert command == ("/usr/bin/caffeinate", "-i", "-w", "42")


@pytest.mark.parametrize(("platform", "program"), [("linux", "/bin/caffeinate"), ("darwin", None)])
def test_elsewhere_there_is_nothing_to_do(platform: str, program: str | None) -> None:
    assert caffeinate(platform, 42, program) is None


def test_it_is_started_once_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("subprocess.Popen", lambda command, **_: started.append(command))
    assert keep_awake() == NOTE
    assert [command[0] for command in started] == ["/usr/bin/caffeinate"]


def test_a_caffeinate_that_does_not_start_costs_a_note_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("subprocess.Popen", refuse)
    assert keep_awake() == "this Mac is not kept awake: /usr/bin/caffeinate: Permission denied"
