"""Files appear whole or not at all."""

import os
import secrets
import stat
from pathlib import Path

import pytest

from mh_batch.jobs.files import PartialFile, replacing


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with replacing(path) as out:
        out.write(b"new")
        assert path.read_text() == "old"
    assert entries(tmp_path) == ["a"]
    assert path.read_text() == "new"


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as out:
            out.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert entries(tmp_path) == ["a"]
    assert path.read_text() == "old"


def test_what_is_there_under_the_fresh_name_is_not_touched(
    tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    first = PartialFile(path)
    fresh = first.name
    first.discard()
    monkeypatch.setattr(
        secrets, "token_hex", lambda _: fresh.removeprefix(".mh-batch-").removesuffix(".partial")
    )
    (tmp_path / fresh).symlink_to(victim)
    with pytest.raises(FileExistsError):
        PartialFile(path)
    assert victim.read_text() == "precious"
    assert (tmp_path / fresh).is_symlink()


def test_a_link_under_the_final_name_is_replaced_and_not_followed(
    tmp_path: Path, victim: Path
) -> None:
    (tmp_path / "a").symlink_to(victim)
    with replacing(tmp_path / "a") as out:
        out.write(b"new")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "a").is_symlink()


def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    with replacing(tmp_path / ("n" * 255)) as out:
        out.write(b"x")
    assert entries(tmp_path) == ["n" * 255]


def test_a_file_is_made_by_the_umask_and_for_all_to_write_never(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with replacing(tmp_path / "a") as out:
            out.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o664
