"""The Harmony vocabulary comes from an installed package, never from the network."""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mh_batch.engine.harmony import vocabulary

ENCODE = """
import socket
def refuse(*_, **__): raise AssertionError("no network")
socket.socket.connect = refuse
from mh_batch.engine.harmony.vocabulary import harmony_encoding
print(harmony_encoding().encode("hello there"), harmony_encoding() is harmony_encoding())
"""


def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TIKTOKEN", "XDG"))}
    return subprocess.run(
        [sys.executable, "-c", ENCODE],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_vocabulary_is_unpacked_once_into_the_users_cache(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    if sys.platform == "darwin":
        environment["HOME"] = str(tmp_path)
    for _ in range(2):
        done = run(environment)
        assert done.stdout == "[24912, 1354] True\n", done.stderr
    (file,) = (p for p in tmp_path.rglob("*") if p.is_file())
    assert file.name == "o200k_base.tiktoken"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == vocabulary.SHA256


def test_several_processes_may_unpack_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from mh_batch.engine.harmony import vocabulary as v; "
        "v._cache_home = lambda: Path(sys.argv[1]); print(v.vocabulary_folder())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert {process.communicate(timeout=60)[0].strip() for process in running} == {
        str(tmp_path / "mh-batch" / "vocabulary")
    }
    (file,) = (p for p in tmp_path.rglob("*") if p.is_file())
    assert hashlib.sha256(file.read_bytes()).hexdigest() == vocabulary.SHA256


def test_a_vocabulary_folder_that_the_user_set_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    vocabulary._unpack(own)
    cache = tmp_path / "cache"
    done = run({"TIKTOKEN_ENCODINGS_BASE": str(own), "XDG_CACHE_HOME": str(cache)})
    assert done.stdout == "[24912, 1354] True\n", done.stderr
    assert not cache.exists()


def test_a_users_folder_without_the_file_is_named_in_the_error(tmp_path: Path) -> None:
    done = run({"TIKTOKEN_ENCODINGS_BASE": str(tmp_path / "nowhere")})
    last = done.stderr.strip().splitlines()[-1]
    assert "EnvironmentFault" in last
    assert "TIKTOKEN_ENCODINGS_BASE" in done.stderr
    assert "nowhere" in done.stderr


def test_a_damaged_vocabulary_in_the_cache_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "_cache_home", lambda: tmp_path)
    folder = vocabulary.vocabulary_folder()
    (folder / vocabulary.FILE_NAME).write_bytes(b"cut")
    assert vocabulary.vocabulary_folder() == folder
    assert hashlib.sha256((folder / vocabulary.FILE_NAME).read_bytes()).hexdigest() == (
        vocabulary.SHA256
    )
    assert [p.name for p in folder.iterdir()] == [vocabulary.FILE_NAME]


def test_a_cache_that_cannot_be_written_falls_back_to_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "a file"
    blocked.touch()
    monkeypatch.setattr(vocabulary, "_cache_home", lambda: blocked)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    folder = vocabulary.vocabulary_folder()
    assert (folder / vocabulary.FILE_NAME).is_file()
    assert folder.is_relative_to(tmp_path / "temporary")


def test_importing_the_package_loads_no_library() -> None:
    code = "import sys, mh_batch.engine; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not {"mlx", "mlx_lm", "transformers", "openai_harmony"} & set(done.stdout.split())


def test_the_tokens_are_found_also_where_the_encoding_was_loaded_in_another_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # as in a fork of a process that had loaded it
    vocabulary.harmony_encoding()
    monkeypatch.delenv(vocabulary.BASE_VARIABLE, raising=False)
    tokens = vocabulary.text_tokens()
    assert tokens[24912] == b"hello"
    assert tokens[1354] == b" there"
