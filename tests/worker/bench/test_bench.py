"""The bench: its pure parts as values, and one small run of the real thing on the demo model."""

import copy
import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from helpers.forks import Forks
from helpers.paths import TESTS
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.errors import InputError, ModelNotLoaded, PromptTooLong, SettingsError
from mh_batch.jobs.generation import Prompt
from mh_batch.jobs.settings import EngineOptions, Sampling
from mh_batch.worker.bench import bench as bench_parts
from mh_batch.worker.bench import random_model, reference
from mh_batch.worker.bench import workload as bench_settings
from mh_batch.worker.bench.bench import Bench, Found
from mh_batch.worker.bench.report import table
from mh_batch.worker.bench.report.compare import FigureChange, changes, differences
from mh_batch.worker.bench.report.goals import GOALS, Goal, held_to
from mh_batch.worker.bench.report.note import HEAD, note
from mh_batch.worker.bench.report.outputs import Outputs
from mh_batch.worker.bench.report.plot import bars, draw, panels
from mh_batch.worker.bench.report.report import (
    Figure,
    ProfileLine,
    Report,
    Series,
    Setup,
    Usage,
    read_report,
    write_report,
)
from mh_batch.worker.bench.rounds import (
    Sample,
    Samples,
    Variants,
    figure,
    interleave,
    not_measured,
    ratio,
)
from mh_batch.worker.bench.run import SCENARIOS, BenchRequest, Part, chosen, measure, report_of, run
from mh_batch.worker.bench.scenarios import prefix
from mh_batch.worker.bench.scenarios.drain import AttemptTimes, figures, gaps, run_jobs_in
from mh_batch.worker.bench.scenarios.position import grown
from mh_batch.worker.bench.subject import Subject
from mh_batch.worker.bench.usage import Meter, Probes, device_utilization, probes, usage
from mh_batch.worker.bench.workload import (
    COUNTING,
    DATE,
    FULL,
    QUICK,
    make_request,
    prompt_of,
    sharing,
    short_jobs,
    turns,
    words,
)
from mh_batch.worker.options import ArtifactPolicy

NOTE = TESTS / "bench" / "README.md"
MAIN = "from mh_batch.worker.cli import main; main()"

IOREG = """\
+-o AGXAcceleratorG14X  <class AGXAcceleratorG14X, id 0x1000004a2, registered, matched, active>
    {
      "IOClass" = "AGXAcceleratorG14X"
      "AGCInfo" = {"fLastSubmissionPID"=612,"fSubmissionsSinceLastCheck"=0,"fBusyCount"=0}
      "PerformanceStatistics" = {"In use system memory (driver)"=0,"Alloc system memory"=3117252608\
,"Tiler Utilization %"=9,"recoveryCount"=0,"lastRecoveryTime"=0,"Renderer Utilization %"=88,\
"TiledSceneBytes"=1441792,"Device Utilization %"=97,"SplitSceneCount"=0,"In use system memory"=5}
      "model" = "Apple M3 Max"
      "gpu-core-count" = 40
    }

+-o IntelAccelerator  <class IntelAccelerator, id 0x100000511, registered, matched, active>
    {
      "PerformanceStatistics" = {"recoveryCount"=0,"Device Utilization %"=4,"Tiler Utilization %"=4}
    }

+-o SomeAccelerator  <class SomeAccelerator, id 0x100000599, registered, matched, active>
    {
      "PerformanceStatistics" = {"recoveryCount"=0,"GPU Activity(%)"=100}
    }
"""


def test_the_busiest_accelerator_is_the_one_that_counts() -> None:
    assert device_utilization(IOREG) == 97
    assert device_utilization(IOREG.replace('"Device Utilization %"=97', '"x"=1')) == 4
    assert device_utilization(IOREG.replace('"Device Utilization %"=97,', "")) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        IOREG.replace("Device Utilization %", "Devices"),
        IOREG.replace("PerformanceStatistics", "PerformanceStatisticsAccum"),
        '"Device Utilization %"=50',
        '"PerformanceStatistics" = {"Device Utilization %"=}',
        '"PerformanceStatistics" = {"recoveryCount"=0}\n"Other" = {"Device Utilization %"=50}',
    ],
)
def test_without_the_figure_there_is_no_substitute_for_it(text: str) -> None:
    assert device_utilization(text) is None


def test_every_other_round_goes_back_and_the_warm_round_is_forgotten() -> None:
    order: list[str] = []

    def variant(name: str) -> Callable[[], Sample]:
        def measure() -> Sample:
            order.append(name)
            return Sample(float(len(order)))

        return measure

    samples = interleave({name: variant(name) for name in "abc"}, 3)
    rounds = ["".join(order[at : at + 3]) for at in range(0, 12, 3)]
    assert {"".join(sorted(names)) for names in rounds} == {"abc"}
    assert rounds[2] == rounds[1][::-1]
    assert [sample.value for sample in samples["a"]] == [
        1 + 3 * turn + names.index("a") for turn, names in enumerate(rounds) if turn
    ]
    assert interleave({"a": variant("a")}, 1, warm=False)["a"] == [Sample(13.0)]


def test_a_ratio_is_the_median_of_the_rounds_and_none_over_zero() -> None:
    ours = [Sample(10.0), Sample(5.0), Sample(9.0)]
    other = [Sample(10.0), Sample(4.0), Sample(10.0)]
    assert ratio(ours, other) == 1.0
    assert ratio(ours, [*other[:2], Sample(0.0)]) is None
    assert ratio([], []) is None


def test_a_figure_is_a_median_with_its_ratios_and_the_first_remark() -> None:
    samples = {
        "ours": [Sample(1.0), Sample(3.0, "ended early"), Sample(8.0)],
        "theirs": [Sample(2.0), Sample(2.0), Sample(2.0)],
        "nothing": [Sample(0.0)] * 3,
    }
    over = {"of theirs": "theirs", "of nothing": "nothing"}
    found = figure(("decode", "greedy"), "tok/s", samples, "ours", over)
    assert found == Figure(
        "decode", "greedy", 3.0, "tok/s", ratios={"of theirs": 1.5}, n=3, note="ended early"
    )


def test_a_request_has_the_values_asked_for_over_the_built_in_ones() -> None:
    request = make_request(COUNTING, {"max_tokens": 9, "top_k": 5, "reasoning_effort": "low"})
    assert request.sampling == Sampling(max_tokens=9, top_k=5)
    assert request.prompt.prompting.reasoning_effort == "low"
    assert request.prompt.messages == COUNTING.messages
    assert request.seed == bench_settings.SEED


def test_a_setting_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SettingsError, match="unknown setting phase_of_moon"):
        make_request(COUNTING, {"phase_of_moon": "full"})


@pytest.mark.parametrize("tokens", [20, 100, 999])
@pytest.mark.parametrize("system", [False, True])
def test_a_prompt_comes_close_to_the_length_asked_for_and_never_exceeds_it(
    tokens: int, system: bool
) -> None:
    def length(prompt: Prompt) -> int:
        return 7 + sum(3 + 2 * len(m.content.split()) for m in prompt.messages)

    prompt = prompt_of(tokens, length, system)
    assert tokens - 2 < length(prompt) <= tokens
    assert prompt.messages[0].role == ("system" if system else "user")


def test_the_work_is_the_same_in_every_run() -> None:
    assert words(500) == words(500)
    assert words(500).startswith(words(20))
    assert list(short_jobs(2)) == [
        b'{"custom_id":"sum-0","prompt":"What is 10 + 7?"}\n',
        b'{"custom_id":"sum-1","prompt":"What is 11 + 7?"}\n',
    ]
    assert len(set(short_jobs(100))) == 100
    first, second = sharing(Prompt((Message("system", "S"), Message("user", "x")), DATE), 2)
    assert first.messages[0] == second.messages[0] == Message("system", "S")
    assert first.messages[1] != second.messages[1]


def test_each_turn_of_the_benchs_conversation_begins_with_the_one_before() -> None:
    prompts = turns(10)
    assert [len(prompt.messages) for prompt in prompts] == list(range(1, 20, 2))
    for before, after in pairwise(prompts):
        assert after.messages[: len(before.messages)] == before.messages
    assert len({message.content for message in prompts[-1].messages}) == 19


def test_gaps_are_what_a_drain_was_not_busy_with_tokens() -> None:
    attempts = [
        AttemptTimes(0.0, 1.0, render=0.1, first_token=0.2, decode=0.6, parse=0.05),
        AttemptTimes(1.5, 3.0, render=0.1, first_token=0.3, decode=1.1, parse=0.0),
        AttemptTimes(3.5, 4.0, render=0.0, first_token=0.1, decode=0.4, parse=0.0),
    ]
    found = gaps(attempts)
    assert found is not None
    assert found == pytest.approx((1.3 / 4, 0.25 / 4, 1.0 / 4, 0.6))
    assert gaps(attempts[:1]) is None
    (only,) = figures(attempts[:1], "one job")
    assert only.value is None
    assert only.note.startswith("n/a: ")
    assert [f.value for f in figures(attempts, "3 jobs")] == pytest.approx([32.5, 6.25, 25.0, 600])


def test_growth_is_from_where_memory_had_settled() -> None:
    marks = [(4, 50), (8, 100), (16, 90), (64, 110)]
    assert grown(marks, 8) == pytest.approx(10)
    assert grown(marks, 100) is None
    assert grown([], 8) is None


def test_usage_is_summed_up_and_what_was_not_told_stays_unknown() -> None:
    assert usage("decode", 2.0, 3.0) == Usage("decode", 2.0, 150.0)
    found = usage("decode", 2.0, 0.0, [None, 40.0, 60.0], [5, None, 9, 6])
    assert found == Usage("decode", 2.0, 0.0, 50.0, 6, 4)
    assert usage("decode", 2.0, 0.0, [None], [None]) == Usage("decode", 2.0, 0.0)


def test_a_meter_asks_at_the_beginning_and_at_the_end() -> None:
    held = iter([100, 30])
    with Meter("decode", Probes(gpu=None, wired=lambda: next(held)), every=3600) as meter:
        pass
    found = meter.usage()
    assert (found.wired_bytes, found.wired_swing_bytes, found.gpu_percent) == (65, 70, None)
    assert probes("linux") == Probes()
    assert all(probes("darwin"))


SETUP = Setup("demo", "cpu: a processor", {"mlx": "1", "mh-batch": "2"}, False, 5, FULL)
BEFORE = Report(
    SETUP,
    figures=(
        Figure("decode", "greedy", 100.0, "tok/s", {"of bare loop": 0.95}, 5),
        Figure("decode", "gone", 7.0, "tok/s"),
        Figure("prefix", "not run now", 7.0, "s"),
        not_measured(("loops", "full"), "tok/s", "the context of 256 tokens is too small"),
    ),
    usage=(Usage("decode", 1.0, 50.0, wired_bytes=100),),
)
NOW = Report(
    msgspec.structs.replace(
        SETUP,
        device="gpu: another",
        versions={"mlx": "2", "mlx-lm": "1"},
        sizes=msgspec.structs.replace(FULL, near=1),
    ),
    figures=(
        Figure("decode", "greedy", 110.0, "tok/s", {"of bare loop": 0.99, "of mlx-lm": 1.0}, 5),
        Figure("decode", "new", 8.0, "tok/s", note="ended early"),
        Figure("loops", "full", 90.0, "tok/s"),
        Figure("drain", "gap share", 0.84, "%", n=100),
    ),
    series=(
        Series("position", "window", "position", "tok/s", (1.0, 2.0), (9.0, 9.0)),
        Series("position", "no window", "position", "tok/s", (1.0, 2.0), (9.0, 7.0)),
        Series("memory", "window", "position", "MiB", (1.0, 2.0), (9.0, 9.0)),
    ),
    usage=(Usage("decode", 1.0, 75.0, 90.0, 150, 20), Usage("drain", 1.0, 5.0)),
    profile=(ProfileLine("decode.py:1 decode", 1234, 0.5, 0.75),),
)


def test_changes_name_every_figure_of_this_run_and_what_it_lost() -> None:
    found = changes(BEFORE, NOW)
    assert found[:5] == [
        FigureChange("decode", "greedy", "tok/s", 100.0, 110.0),
        FigureChange("decode", "new", "tok/s", None, 8.0),
        FigureChange("loops", "full", "tok/s", None, 90.0),
        FigureChange("drain", "gap share", "%", None, 0.84),
        FigureChange("decode", "gone", "tok/s", 7.0, None),
    ]
    assert [change[:2] for change in found[5:9]] == [
        ("decode", "CPU"),
        ("decode", "GPU"),
        ("decode", "wired memory"),
        ("decode", "wired memory, swing"),
    ]
    assert [table.signed(change.percent) for change in found[:9]] == [
        "+10.0%", "n/a", "n/a", "n/a", "n/a", "+50.0%", "n/a", "+50.0%", "n/a",
    ]  # fmt: skip
    assert FigureChange("x", "y", "%", 0.0, 1.0).percent is None
    assert FigureChange("x", "y", "%", -2.0, -1.0).percent == 50


def test_what_makes_two_runs_unlike_is_said() -> None:
    assert differences(BEFORE, BEFORE) == []
    others = msgspec.structs.replace(BEFORE, figures=BEFORE.figures[3:])
    assert differences(others, msgspec.structs.replace(BEFORE, figures=BEFORE.figures[:1])) == [
        "no scenario was measured in both"
    ]
    assert differences(BEFORE, NOW) == [
        "device: cpu: a processor then, gpu: another now",
        "size near: 64 then, 1 now",
        "mh-batch: 2 then, None now",
        "mlx: 1 then, 2 now",
        "mlx-lm: None then, 1 now",
    ]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "tok/s", "n/a"),
        (1234.56, "tok/s", "1,235 tok/s"),
        (45.678, "tok/s", "45.7 tok/s"),
        (0.834, "%", "0.83 %"),
        (-0.834, "%", "-0.83 %"),
        (-0.004, "%", "0.00 %"),
        (3 * 2**20, "bytes", "3 MiB"),
        (0, "ms", "0.00 ms"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(
    value: float | None, unit: str, text: str
) -> None:
    assert table.number(value, unit) == text


def test_a_line_of_progress_has_the_figure_its_ratios_and_why_there_is_none() -> None:
    assert [table.line(f) for f in (NOW.figures[0], BEFORE.figures[3])] == [
        "greedy: 110 tok/s; 0.99 of bare loop, 1.00 of mlx-lm",
        "full: n/a; the context of 256 tokens is too small",
    ]


def one_too_long(_: Bench) -> Found:
    """A scenario whose second half does not fit the model's context."""
    yield NOW.figures[0]
    raise PromptTooLong("8000 tokens are too many")


def test_what_a_model_cannot_run_leaves_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loaded(Bench):
        subject = None  # type: ignore[assignment]

    said: list[str] = []
    monkeypatch.setitem(SCENARIOS, "decode", one_too_long)
    part = Part("decode")
    measure(part, Loaded("demo", QUICK, 1), said.append)
    report = report_of(BenchRequest("demo", 1), [part])
    assert [f.note for f in report.figures] == ["", "n/a: 8000 tokens are too many"]
    assert said[0] == "bench: decode"
    assert [u.scenario for u in report.usage] == ["decode"]


class FakeSubject:
    """An engine that takes what the real one takes, and is as fast as its settings are few."""

    def __init__(self) -> None:
        self.active = 1000
        self.settled = 0

    def length(self, prompt: Prompt) -> int:
        return sum(len(message.content.split()) for message in prompt.messages)

    def decode_speed(self, prompt: Prompt, values: dict[str, Any], **__: Any) -> Sample:
        make_request(prompt, values)
        return Sample(100.0 / len(values))

    def generate(
        self,
        prompt: Prompt,
        values: dict[str, Any],
        progress: Callable[[int], None] = lambda _: None,
        **__: Any,
    ) -> None:
        make_request(prompt, values)
        for count in range(1, values["max_tokens"] + 1):
            self.active = 1500 if "max_kv_size" in values else 1000 + 10 * count
            progress(count)
        self.active = 1000

    def wall(self, _: Any, __: Any, engine: EngineOptions) -> Sample:
        return Sample(1.0 if engine.prefix_cache_bytes else 4.0)

    def forget(self) -> None:
        self.active = 1000

    def generator(self, _: EngineOptions) -> "FakeSubject":
        return self

    def between_jobs(self) -> None:
        self.settled += 1

    def active_memory(self) -> int:
        return self.active

    def process_memory(self) -> int:
        return 1000


class FakeBench(Bench):
    """A bench whose engine and references are made up."""

    subject = FakeSubject()  # type: ignore[assignment]

    def reference(self, *_: Any, **__: Any) -> Callable[[], Sample]:
        return lambda: Sample(10.0)


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose every scenario has something to measure."""
    monkeypatch.setattr(prefix, "_script", lambda *_: Sample(2.0))
    return FakeBench("demo", QUICK, 3)


def found_by(bench: Bench, *names: str) -> tuple[dict[str, Figure], list[Series]]:
    """The figures by case, and the curves, of scenarios."""
    found = [item for name in names for item in SCENARIOS[name](bench)]
    figures_found = {item.case: item for item in found if isinstance(item, Figure)}
    return figures_found, [item for item in found if isinstance(item, Series)]


def test_a_window_stands_beside_no_window(complete: Bench) -> None:
    found, curves = found_by(complete, "position", "memory")
    assert found["window 32, at 4x32"].ratios == {"of 1x": 1.0}
    assert found["window 32, at 1x32"].ratios == {}
    assert {"no window, at 4x32", "mlx-lm, no window, at 4x32"} <= set(found)
    assert [(c.scenario, c.case) for c in curves] == [
        ("position", "window 32"),
        ("position", "no window"),
        ("position", "mlx-lm, no window"),
        ("memory", "window 32"),
        ("memory", "no window"),
        ("memory", "after each job"),
    ]
    assert curves[0].x == (32.0, 64.0, 128.0)
    growth = {case: f.value for case, f in found.items() if "active memory" in case}
    # of what it holds beside the model's 1000
    assert list(growth.values()) == [0.0, pytest.approx(100 * 14 * 32 * 10 / 640)]


def test_each_mode_of_loop_detection_is_a_ratio_of_off(complete: Bench) -> None:
    found, _ = found_by(complete, "loops", "penalties")
    assert found["decode, off"].ratios == {}
    assert found["decode, full"].ratios == {"of off": 1.0}
    assert found["detector alone, cheap"].unit == "ns/token"
    assert found["mh-batch, penalty, at 100"].ratios == {"of none": 0.6}
    assert found["mlx-lm, penalty, at 100"].ratios == {"of none": 1.0}


def test_all_positions_are_measured_in_the_same_rounds(
    complete: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[list[str]] = []

    def noted(variants: Variants, count: int, *, warm: bool) -> Samples:
        rounds.append(list(variants))
        return interleave(variants, count, warm=warm)

    monkeypatch.setattr(bench_parts, "interleave", noted)
    found_by(complete, "position")
    assert len(rounds) == 1
    assert {f"{name}, at {m}x32" for name in ("window 32", "no window") for m in (1, 2, 4)} <= set(
        rounds[0]
    )


@pytest.mark.slow
def test_each_way_to_keep_artifacts_is_a_ratio_of_none() -> None:
    found, _ = found_by(Bench("demo", QUICK, 1), "artifacts")
    assert list(found) == [f"2 short jobs, {keep}" for keep in ("off", "all")]
    assert [set(figure.ratios) for figure in found.values()] == [set(), {"of off"}]
    assert all(figure.value is not None and figure.value > 0 for figure in found.values())


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "files"), [("off", 0), ("all", 7)])
def test_a_drain_keeps_the_files_that_its_measurement_is_named_for(
    tmp_path: Path, keep: ArtifactPolicy, files: int
) -> None:
    assert len(run_jobs_in(tmp_path, "demo", 1, keep)) == 1
    assert len(list((tmp_path / "logs").rglob("*.1.1.*"))) == files


def test_a_larger_model_stands_beside_the_same_references(monkeypatch: pytest.MonkeyPatch) -> None:
    # as large as in the bench it would take the test a minute
    monkeypatch.setattr(random_model, "HIDDEN", 64)
    monkeypatch.setattr(random_model, "LAYERS", 2)
    found, _ = found_by(Bench("none", QUICK, 1), "larger")
    assert list(found)[::3] == ["greedy", "temperature 1"]
    assert set(found["greedy"].ratios) == {"of bare loop", "of mlx-lm"}


def test_a_reference_goes_on_from_what_was_read_as_if_it_had_read_it() -> None:
    subject = Subject("demo")
    prompt = prompt_of(150, subject.length)
    tokens = subject.tokens(prompt)
    penalised = Sampling(max_tokens=12, temperature=0.0, repetition_penalty=1.5)
    for loop in (reference.bare, reference.mlx_lm):
        whole = list(loop(subject.model, reference.unread(subject.model, tokens), penalised))
        for _ in range(2):
            start = reference.read(subject.model, tokens)
            fresh = start._replace(caches=copy.deepcopy(start.caches))
            assert list(loop(subject.model, fresh, penalised)) == whole


def test_reuse_is_a_ratio_of_none_and_of_the_script(complete: Bench) -> None:
    found, _ = found_by(complete, "prefix")
    ratios = [f.ratios for f in found.values()]
    expected = [{"of no reuse": 0.25, "of mlx-lm script": 0.5}, {"of mlx-lm script": 2.0}, {}]
    assert ratios == expected * 2
    assert [*found][::3] == ["2 jobs sharing 100 tokens, reuse", "2 short turns, reuse"]


def test_the_tables_show_figures_usage_profile_and_changes() -> None:
    out = io.StringIO()
    console = Console(file=out, width=140)
    table.print_report(NOW, console)
    table.print_changes(changes(BEFORE, NOW), differences(BEFORE, NOW), console)
    text = out.getvalue()
    for part in (
        "0.99 of bare loop, 1.00 of mlx-lm",
        "ended early",
        "decode.py:1 decode",
        "1,234",
        "+10.0%",
        "n/a",
        "not alike: mlx: 1 then, 2 now",
    ):
        assert part in text


def test_the_note_has_what_travels_between_machines_and_no_speeds() -> None:
    text = note(NOW)
    assert text == note(NOW)
    asked = "at least 0.97 of bare loop, at least 1.00 of mlx-lm"
    assert f"| decode | greedy | 0.99 of bare loop, 1.00 of mlx-lm | {asked} |" in text
    assert "| drain | gap share | 0.84 % |  |" in text
    assert "tok/s" not in text
    assert "| loops | full | n/a: the context of 256 tokens is too small |  |" in note(BEFORE)


def test_a_goal_that_is_missed_is_marked_and_so_is_one_that_was_not_measured() -> None:
    slow = Figure("decode", "temperature 1", 1.0, "tok/s", {"of bare loop": 0.96, "of mlx-lm": 1.0})
    missed = "at least 0.97 of bare loop (missed), at least 1.00 of mlx-lm"
    assert held_to(slow) == missed
    assert held_to(msgspec.structs.replace(slow, ratios={})).count("(missed)") == 2
    assert held_to(msgspec.structs.replace(slow, case="top_p 0.9")) == ""
    nothing = not_measured(("penalties", "what remains"), "", "too long")
    assert held_to(nothing) == "at least 0.90 of none (missed)"
    idle = Figure("drain", "100 short jobs, gap share of wall", 1.2, "%")
    assert held_to(idle) == "at most 1.00 (missed)"
    assert held_to(msgspec.structs.replace(idle, value=1.0)) == "at most 1.00"


def test_every_goal_concerns_a_figure_of_the_note_that_comes_along() -> None:
    rows = [row.split(" | ")[:2] for row in NOTE.read_text("utf-8").splitlines() if row[:2] == "| "]
    figures = [Figure(scenario.removeprefix("| "), case, None, "") for scenario, case in rows]
    for goal in GOALS:
        assert any(goal.applies_to(figure) for figure in figures), goal


def test_a_goal_is_about_whole_cases() -> None:
    goal = Goal("decode", "greedy", "of mlx-lm", least=1.0)
    assert goal.applies_to(Figure("decode", "greedy", 1.0, "tok/s"))
    assert not goal.applies_to(Figure("decode", "greedy, mlx-lm", 1.0, "tok/s"))
    assert not goal.applies_to(Figure("larger", "greedy", 1.0, "tok/s"))


def test_the_note_that_comes_along_is_of_this_bench_and_whole() -> None:
    text = NOTE.read_text("utf-8")
    assert text.startswith(HEAD)
    for scenario in SCENARIOS:
        assert f"\n| {scenario} |" in text


def test_curves_of_one_scenario_and_meaning_share_a_panel() -> None:
    assert [len(group) for group in panels(NOW.series).values()] == [2, 1]
    assert bars(NOW) == [
        ("decode: greedy of bare loop", 0.99),
        ("decode: greedy of mlx-lm", 1.0),
    ]


@pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="an extra")
@pytest.mark.parametrize("report", [BEFORE, NOW, Report(SETUP)], ids=["ratios", "all", "empty"])
def test_a_plot_is_a_png(report: Report) -> None:
    assert draw(report).startswith(b"\x89PNG\r\n")


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    write_report(NOW, path)
    assert read_report(path) == NOW


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"figures": 1}', "\xff"])
def test_a_file_that_is_no_report_is_refused_by_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content, "latin-1")
    with pytest.raises(InputError, match=r"bench\.json: not a report"):
        read_report(path)


def test_a_report_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    write_report(msgspec.structs.replace(NOW, format=99), path)
    with pytest.raises(InputError, match="format 99"):
        read_report(path)
    with pytest.raises(InputError, match="No such file"):
        read_report(tmp_path / "missing.json")


def test_scenarios_run_in_their_own_order_and_a_wrong_name_has_a_hint() -> None:
    assert chosen([]) == list(SCENARIOS)
    assert chosen(["prefix,decode", "drain"]) == ["drain", "decode", "prefix"]
    with pytest.raises(InputError, match=r"--only decod: .* did you mean decode\?"):
        chosen(["decod"])
    with pytest.raises(InputError, match="must be one of drain, artifacts, submit"):
        chosen(["xyz"])


def test_a_model_of_the_users_own_has_no_other_beside_it_unless_that_is_named() -> None:
    expected = [name for name in SCENARIOS if name not in ("larger", "forms", "slots")]
    assert chosen([], "/models/gpt-oss-20b") == expected
    assert chosen(["larger"], "/models/gpt-oss-20b") == ["larger"]


def bench(
    folder: Path, *arguments: str, forks: Forks | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run `mh-batch bench` in `folder`."""
    command = (sys.executable, "-c", MAIN, "bench", *arguments)
    env = {**os.environ, "COLUMNS": "160", **more}
    return subprocess.run(
        forks.command(command, folder, env) if forks else command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=env,
        check=False,
    )


def test_a_submit_stands_beside_a_bare_loop_and_a_long_queue_beside_a_short_one() -> None:
    figures, _ = found_by(Bench("none", QUICK, 1), "submit", "queue")
    assert set(figures["200 lines of 1 KB, submit"].ratios) == {"of bare loop"}
    assert figures["200 lines of 1 KB, peak memory"].unit == "bytes"
    assert set(figures["200 queued, claim and record"].ratios) == {"of 20"}
    assert all(figure.value is not None and figure.value > 0 for figure in figures.values())


def test_a_quick_run_measures_prints_writes_and_compares(tmp_path: Path, forks: Forks) -> None:
    quick = ("--quick", "--rounds", "1", "--only", "decode")
    first = bench(tmp_path, *quick, "--json", "a.json", "--note", "note.md", forks=forks)
    assert first.returncode == 0, first.stderr
    assert "of bare loop" in first.stdout
    report = read_report(tmp_path / "a.json")
    measured = {f.case: f for f in report.figures}
    assert {"greedy", "greedy, bare loop", "greedy, mlx-lm", "temperature 1"} <= set(measured)
    assert all(f.value is not None and f.value > 0 for f in report.figures)
    assert set(measured["greedy"].ratios) == {"of bare loop", "of mlx-lm"}
    assert json.loads((tmp_path / "a.json").read_text())["setup"]["model"] == "demo"
    assert (tmp_path / "note.md").read_text() == note(report)
    second = bench(tmp_path, *quick, "--compare", "a.json", "--profile", forks=forks)
    assert second.returncode == 0, second.stderr
    assert "before" in second.stdout
    assert "Profile" in second.stdout
    assert "not alike" not in second.stdout


def interrupted(_: Bench) -> Found:
    """A scenario in which somebody loses patience."""
    yield NOW.figures[1]
    raise KeyboardInterrupt


def test_what_was_measured_before_an_interrupt_is_printed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCENARIOS, "submit", lambda _: iter(NOW.figures[:1]))
    monkeypatch.setitem(SCENARIOS, "queue", interrupted)
    outputs = Outputs(json=tmp_path / "a.json", note=tmp_path / "note.md")
    out = io.StringIO()
    request = BenchRequest("demo", 1, only=("submit,queue",), outputs=outputs)
    with pytest.raises(KeyboardInterrupt):
        run(request, lambda _: None, Console(file=out, width=120))
    assert "greedy" in out.getvalue()
    kept = read_report(tmp_path / "a.json")
    assert kept.figures == NOW.figures[:2]
    assert [u.scenario for u in kept.usage] == ["submit"]
    assert "the earlier run was interrupted" in differences(kept, NOW)
    # the note is of whole runs
    assert not (tmp_path / "note.md").exists()


def test_a_model_that_is_not_there_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = BenchRequest(str(tmp_path / "nope"), 1, only=("drain",))
    with pytest.raises(ModelNotLoaded, match="no such folder"):
        run(asked, pytest.fail, Console(file=io.StringIO()))
    monkeypatch.setitem(SCENARIOS, "queue", lambda _: iter(NOW.figures[:1]))
    needless = msgspec.structs.replace(asked, only=("queue",))
    assert run(needless, lambda _: None, Console(file=io.StringIO())).figures == NOW.figures[:1]


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (Outputs(json=Path("a"), note=Path("a")), "--note a: is also the file of --json"),
        (Outputs(json=Path("a"), compare=Path("a")), "--compare a: is also the file of --json"),
        (Outputs(json=Path("folder")), "--json folder: is a folder"),
        (Outputs(note=Path("-")), "--note -: name a file"),
        (Outputs(json=Path("no/a")), "--json no/a: no such folder"),
    ],
)
def test_outputs_that_spoil_each_other_or_cannot_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outputs: Outputs, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=said):
        outputs.check()


def test_the_help_names_every_scenario(tmp_path: Path) -> None:
    said = " ".join(bench(tmp_path, "--help").stdout.split())
    assert f"Only these of {', '.join(SCENARIOS)}." in said


def test_what_would_fail_at_the_end_is_refused_before_the_first_measurement(
    tmp_path: Path,
) -> None:
    (tmp_path / "hidden" / "matplotlib").mkdir(parents=True)
    (tmp_path / "hidden" / "matplotlib" / "__init__.py").write_text("raise ImportError")
    paths = os.pathsep.join([str(tmp_path / "hidden"), os.environ.get("PYTHONPATH", "")])
    for arguments, said in (
        (["--plot", "a.png"], "matplotlib"),
        (["--json", "nowhere/a.json"], "nowhere/a.json"),
        (["--compare", "missing.json"], "missing.json"),
        (["--only", "nonsense"], "nonsense"),
    ):
        done = bench(tmp_path, *arguments, PYTHONPATH=paths)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
