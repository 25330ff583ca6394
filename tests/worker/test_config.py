"""`mh-batch.toml`: what it sets, and how mistakes in it are reported."""

from pathlib import Path

import pytest

from helpers.command_line import mh_batch, write_lines
from mh_batch.jobs.errors import InputError
from mh_batch.store.connection import open_store
from mh_batch.worker.config import Config, effective_settings, given_names, read_config


def read(folder: Path, text: str) -> Config:
    (folder / "mh-batch.toml").write_text(text)
    return read_config(folder)


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("mh-batch.toml: ")
    return line.removeprefix("mh-batch.toml: ")


def test_without_a_file_all_is_at_its_default(tmp_path: Path) -> None:
    assert read_config(tmp_path) == Config()


def test_every_table_of_the_file_counts(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        'model = "demo"\nrecycle_bytes = 5\n[settings]\ntop_k = 3\n'
        "[engine]\nprefix_cache_bytes = 0\n",
    )
    assert (config.model, config.recycle_bytes) == ("demo", 5)
    assert config.engine.prefix_cache_bytes == 0
    assert effective_settings(config, None, []).sampling.top_k == 3


def test_the_limit_of_a_line_is_that_of_the_file_and_the_flag_wins(tmp_path: Path) -> None:
    assert read_config(tmp_path).max_line_mib == 32
    (tmp_path / "mh-batch.toml").write_text("max_line_mib = 1\n")
    lines = write_lines(tmp_path, [{"prompt": "x" * (1 << 20)}, {"prompt": "y"}])
    told = mh_batch(tmp_path, "submit", lines.name, code=2).stderr
    assert told == "mh-batch: convos.jsonl:1: longer than 1 MiB; --max-line-mib takes longer ones\n"
    run = ("run", lines.name, "-o", "out.jsonl", "--model", "demo")
    assert "longer than 1 MiB" in mh_batch(tmp_path, *run, code=2).stderr
    landed = mh_batch(tmp_path, "submit", lines.name, "--max-line-mib", "2").stderr
    assert landed == "batch 1 (convos): 2 jobs queued\n"


def test_the_file_wins_over_its_own_profile_and_the_flag_over_the_file(tmp_path: Path) -> None:
    config = read(tmp_path, 'profile = "steady"\n[settings]\nmax_tokens = 7\n')
    own = effective_settings(config, None, [])
    assert (own.sampling.max_tokens, own.context.max_kv_size) == (7, 8192)
    assert effective_settings(config, "steady", []).sampling.max_tokens == 1024
    assert effective_settings(config, "steady", ["max_tokens=9"]).sampling.max_tokens == 9


def test_the_names_of_what_was_set_come_from_file_profile_and_flags() -> None:
    config = Config(profile="steady", settings={"top_p": 1.0})
    assert given_names(Config(), None, []) == ()
    assert given_names(config, None, []) == (
        *("history_tokens", "max_kv_size", "max_tokens", "top_p"),
    )
    assert given_names(config, "quality", ["min_p = 0", "seed=3"]) == ("min_p", "seed", "top_p")
    assert given_names(Config(), None, [], {"type": "json_object"}) == ("response_format",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('adapter = "night1"', "adapter: for which model? Set `model` as well"),
        ('modle = "demo"', "unknown key modle; did you mean model?"),
        ("[setings]\ntop_k = 1", "unknown key setings; did you mean settings?"),
        (
            "[engine]\nprefix_cache = 1",
            "unknown key engine.prefix_cache; did you mean engine.prefix_cache_bytes?",
        ),
        ("temperature = 0.7", "unknown key temperature; it belongs into [settings]"),
        ("prefix_cache_bytes = 1", "unknown key prefix_cache_bytes; it belongs into [engine]"),
        ('[engine]\nmodel = "demo"', "unknown key engine.model; it belongs above all tables"),
        ("[settings]\ntemprature = 1.0", "unknown setting temprature; did you mean temperature?"),
        ('profile = "stedy"', "unknown profile 'stedy'; must be one of quality, steady"),
    ],
)
def test_a_name_that_is_not_known_is_told_with_what_was_meant(
    tmp_path: Path, text: str, told: str
) -> None:
    assert complaint(tmp_path, text) == told


def test_a_function_for_answers_may_stand_in_the_file_or_the_command(tmp_path: Path) -> None:
    open_store(tmp_path / "mh-batch.db").close()
    (tmp_path / "mh-batch.toml").write_text('accept = "check.py:toml"\n')
    (tmp_path / "check.py").write_text("")
    by_file = mh_batch(tmp_path, "work", code=2).stderr
    assert "check.py:toml: AttributeError: there is no function toml in it" in by_file
    by_command = mh_batch(tmp_path, "work", "--accept", "check.py:own", code=2).stderr
    assert "there is no function own in it" in by_command


def test_a_name_like_no_other_is_told_with_all_there_are(tmp_path: Path) -> None:
    known = (
        "known: accept, accept_seconds, adapter, artifacts, engine, hang_seconds, max_crashes, "
        "max_line_mib"
    )
    assert known in complaint(tmp_path, "x9 = 1")


@pytest.mark.parametrize(
    "text",
    [
        "= 1",
        "recycle_bytes = 0",
        f"recycle_bytes = {2**63}",
        f"max_crashes = {2**31}",
        "max_line_mib = 0",
        "max_line_mib = 257",
        "engine = 1",
        "settings = 1",
        f"[engine]\nprefix_cache_bytes = {2**63}",
        "[settings]\ntop_k = -1",
        "\x00",
    ],
)
def test_what_is_no_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    assert complaint(tmp_path, text)
