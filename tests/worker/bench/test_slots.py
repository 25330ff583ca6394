"""The scenario of slots: its pure parts as values, and one small run."""

from pathlib import Path
from statistics import mean

import msgspec
import pytest

from mh_batch.jobs.generation import Timings
from mh_batch.jobs.record import Attempt, AttemptKey, Verdict
from mh_batch.jobs.settings import Sampling
from mh_batch.worker.bench.bench import Bench
from mh_batch.worker.bench.report.report import Figure
from mh_batch.worker.bench.rounds import Sample
from mh_batch.worker.bench.scenarios import slots
from mh_batch.worker.bench.scenarios.queue import GENERATION
from mh_batch.worker.bench.scenarios.slot_drain import Run, cost, run, sized_jobs
from mh_batch.worker.bench.slot_host import host_seconds
from mh_batch.worker.bench.slot_models import write_dense
from mh_batch.worker.bench.slot_speed import SEQUENTIAL, Decode, rows_name, slots_name, speeds
from mh_batch.worker.bench.workload import QUICK
from mh_batch.worker.model_process.preload import openblas_path


def an_attempt(started: float, ended: float, tokens: int, alone: float) -> Attempt:
    """An attempt that decoded beside another for a second, then `alone`; seconds of one minute."""
    timings = Timings(
        10, tokens, decode_seconds=2 + alone, stall_seconds=1.0, machine_seconds=0.5 + alone
    )
    return Attempt(
        AttemptKey(),
        Verdict.ACCEPT,
        None,
        1,
        Sampling(),
        msgspec.structs.replace(GENERATION, timings=timings),
        started_at=f"2026-01-01T00:00:{started:06.3f}+00:00",
        finished_at=f"2026-01-01T00:00:{ended:06.3f}+00:00",
    )


def test_the_sampled_jobs_are_like_all_jobs() -> None:
    jobs = sized_jobs(64)
    assert {min(j.max_tokens for j in jobs), max(j.max_tokens for j in jobs)} == {32, 256}
    assert len({job.prompt for job in jobs}) == 64
    for length in (lambda job: job.max_tokens, lambda job: len(job.prompt)):
        assert mean(map(length, jobs[::8])) == pytest.approx(mean(map(length, jobs)), rel=0.02)


def test_a_drain_is_timed_from_its_first_start_to_its_last_end() -> None:
    together = [an_attempt(1, 5, 11, 0.0), an_attempt(1.5, 7, 31, 2.0)]
    found = cost(together, 2)
    assert (found.tokens, found.seconds) == (42, 6.0)
    # a second with both, two with one
    assert found.busy == pytest.approx((2 + 2) / (2 * 3))


def test_slots_stand_beside_one_row_and_mlx_lms_rows() -> None:
    samples = speeds(Decode("demo", (2, 64), 1, 1), None)
    # 64 rows run on other kernels of the demo model's experts
    assert set(samples) == {SEQUENTIAL, slots_name(2), rows_name(2)}
    assert all(sample.value > 0 for found in samples.values() for sample in found)


@pytest.mark.skipif(not openblas_path().is_file(), reason="no OpenBLAS")
def test_the_worker_and_the_script_answer_the_same_number_of_tokens(tmp_path: Path) -> None:
    write_dense(tmp_path / "model", QUICK.drained)
    jobs = sized_jobs(2)
    asked = Run(str(tmp_path / "model"), jobs, 2, str(openblas_path()))
    tokens = sum(job.max_tokens for job in jobs)
    for found in (run(asked), run(msgspec.structs.replace(asked, slots=None))):
        assert found.tokens == tokens
        assert found.seconds > 0


def test_without_openblas_only_what_needs_none_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "openblas_path", lambda: tmp_path / "missing.so")
    fake = {name: [Sample(10.0)] for name in (SEQUENTIAL, slots_name(2), rows_name(2))}
    monkeypatch.setattr(slots, "speeds", lambda *_: fake)
    found = list(slots.slots(Bench("none", QUICK, 1)))
    figures = {f.case: f for f in found if isinstance(f, Figure)}
    assert figures["dense, experts and drain"].note.startswith("n/a: no OpenBLAS here; apt-get")
    assert figures["demo, 2 slots"].ratios == {"of sequential": 1.0, "of mlx-lm": 1.0}
    # no figure stands for what was not measured
    assert "demo, 8 slots" not in figures


def test_python_of_a_step_is_more_with_slots_than_in_one_batch() -> None:
    assert 0 < host_seconds("demo", 8, 5) < 0.1
