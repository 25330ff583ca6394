"""Several conversations at once, compared with one at a time and with mlx-lm's batches."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from mh_batch.engine.model.folder import DEMO
from mh_batch.worker.bench.bench import Bench, Found
from mh_batch.worker.bench.report.report import Figure
from mh_batch.worker.bench.rounds import Samples, figure, not_measured
from mh_batch.worker.bench.slot_speed import SEQUENTIAL, Decode, rows_name, slots_name, speeds
from mh_batch.worker.model_process.preload import PACKAGE, openblas_path

from .slot_drain import drains

ROUNDS = 3
"""Rounds at most: steps of these models take long, and differ little."""

PLACE = "slots"
HOST_SLOTS = 8


def slots(bench: Bench) -> Found:
    """Measure decoding in slots on models that memory limits, and drain one of them.

    The BLAS of MLX's build for Linux takes as long for eight rows as for eight times one. So these
    use OpenBLAS, on one thread, where it is installed.
    """
    from mh_batch.worker.bench import slot_models

    sizes = bench.sizes
    with tempfile.TemporaryDirectory(prefix="mh-batch-bench-") as name:
        folder = Path(name)
        slot_models.write_dense(folder / "dense", sizes.dense)
        slot_models.write_experts(folder / "experts", sizes.experts)
        slot_models.write_dense(folder / "drained", sizes.drained)
        slot_models.write_dense(folder / "small", sizes.small)
        if openblas_path().is_file():
            blas = str(openblas_path())
            yield from _decode(bench, "dense", folder / "dense", blas)
            yield from _decode(bench, "experts", folder / "experts", blas)
            yield from drains(folder / "drained", sizes.slot_jobs, blas)
        else:
            reason = f"no OpenBLAS here; apt-get install {PACKAGE}"
            yield not_measured((PLACE, "dense, experts and drain"), "tok/s", reason)
        yield from _decode(bench, "small, MLX's own BLAS", folder / "small", None)
    yield from _decode(bench, "demo", DEMO, None)
    yield _host(4 * sizes.slot_decode)


def _host(steps: int) -> Figure:
    """Measure what slots cost in Python."""
    from mh_batch.worker.bench.slot_host import host_seconds

    milliseconds = 1000 * host_seconds(DEMO, HOST_SLOTS, steps)
    case = f"demo, {HOST_SLOTS} slots, Python of a step beyond the model's own"
    return Figure(PLACE, case, milliseconds, "ms/step", n=steps)


def _decode(bench: Bench, model: str, folder: Path | str, blas: str | None) -> Iterator[Figure]:
    sizes = bench.sizes
    asked = Decode(str(folder), sizes.slots, sizes.slot_decode, min(bench.rounds, ROUNDS))
    samples = speeds(asked, blas)
    yield figure((PLACE, f"{model}, {SEQUENTIAL}"), "tok/s", samples, SEQUENTIAL)
    for count in sizes.slots:
        yield from _of_count(model, count, samples)


def _of_count(model: str, count: int, samples: Samples) -> Iterator[Figure]:
    ours, theirs = slots_name(count), rows_name(count)
    if ours not in samples:
        # more rows than its experts take on the same kernels
        return
    over = {f"of {SEQUENTIAL}": SEQUENTIAL, "of mlx-lm": theirs}
    yield figure((PLACE, f"{model}, {ours}"), "tok/s", samples, ours, over)
    yield figure((PLACE, f"{model}, {theirs}"), "tok/s", samples, theirs)
