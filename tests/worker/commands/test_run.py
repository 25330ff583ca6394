"""`run` takes the options of `submit` and of `work`, and hands each to the part it is for."""

from datetime import time
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from mh_batch.jobs.record import NewBatch
from mh_batch.worker.cli import app
from mh_batch.worker.commands import work as commands
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.submission.submission import Rules
from mh_batch.worker.submission.tables.options import RowOptions

NOT_FOR_RUN = {"--check", "--trial", "--watch"}
"""With the first two nothing is queued, with the last there never is an end to write results at."""


def options(name: str) -> dict[str, str]:
    """The options of a command and their help."""
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    params = [param for param in command.params if param.param_type_name == "option"]
    return {name: param.help for param in params for name in param.opts}


def test_run_takes_what_submit_and_work_take() -> None:
    submit, work, run = options("submit"), options("work"), options("run")
    assert (submit | work).keys() - run.keys() == NOT_FOR_RUN
    shared = (submit | work).keys() & run.keys() - {"--model"}
    assert {name: run[name] for name in shared} == {name: (submit | work)[name] for name in shared}


class Reached(Exception):
    """What a run was about to do."""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run with options that are not the defaults, without a queue and without a model."""
    found: dict[str, Any] = {}

    def submitting(_db: Path, batch: NewBatch, rules: Rules, rows: RowOptions, **_: bool) -> int:
        found.update(batch=batch, rules=rules, rows=rows)
        return 1

    def draining(options: DrainOptions, _: object, **__: bool) -> None:
        found.update(options=options)
        raise Reached

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "submit_file", submitting)
    monkeypatch.setattr(commands, "_drain", draining)
    (tmp_path / "mh-batch.toml").write_text('model = "demo"\nparallel = 2\nmax_crashes = 5\n')
    arguments = (
        "in.jsonl -o out.jsonl --adapter night1 --name night --priority 3 --order prefix "
        "--skip-bad --again --max-line-mib 7 -p 4 --mix --allow-variance --recycle-bytes 11 "
        "--prefix-cache-bytes 12 --artifacts off --hang-seconds 13 --max-jobs 14 --until 07:30 "
        "--prompt {{x}} --map custom_id=y --system S --n 2 --max-tokens 15 --temperature 0.5 "
        "--limit 16 --sample 17 --seed 18 --repeat 19"
    )
    with pytest.raises(Reached):
        app(["run", *arguments.split()], standalone_mode=False)
    return found


def test_what_is_for_the_batch_reaches_the_submission(asked: dict[str, Any]) -> None:
    batch, rules = asked["batch"], asked["rules"]
    assert (batch.name, batch.priority, batch.order) == ("night", 3, "prefix")
    # an adapter of the batch is for a model of the batch
    assert batch.model == "demo//night1"
    assert rules == Rules(skip_bad=True, again=True, max_line_mib=7)
    sampling = batch.settings.sampling
    assert (sampling.max_tokens, sampling.temperature) == (15, 0.5)
    assert asked["rows"] == RowOptions(
        prompt="{{x}}",
        renamed=(("custom_id", "y"),),
        system="S",
        n=2,
        limit=16,
        sample=17,
        seed=18,
        repeat=19,
    )


def test_what_is_for_the_worker_reaches_the_drain(asked: dict[str, Any]) -> None:
    options = asked["options"]
    assert options.model == "demo//night1"
    assert (options.parallel, options.mix, options.allow_variance) == (4, True, True)
    assert (options.recycle_bytes, options.engine.prefix_cache_bytes) == (11, 12)
    assert (options.artifacts, options.hang_seconds, options.max_jobs) == ("off", 13, 14)
    assert (options.until, options.watch) == (time(7, 30), False)
    # what was not typed is that of the configuration
    assert options.max_crashes == 5
