"""What a scenario takes of the machine: processor, GPU, wired memory."""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import NamedTuple

import psutil

from mh_batch.worker.bench.report.report import Usage

from .ioreg import gpu_percent

SAMPLE_SECONDS = 2.0


class Probes(NamedTuple):
    """How to ask for a figure now; `None` for what this machine does not tell."""

    gpu: Callable[[], float | None] | None = None
    wired: Callable[[], int | None] | None = None


def probes(platform: str = sys.platform) -> Probes:
    """Return what can be asked here: both on macOS, else nothing."""
    return Probes(gpu_percent, wired_bytes) if platform == "darwin" else Probes()


def wired_bytes() -> int | None:
    """Return the memory that cannot be paged out, `None` where psutil does not tell it."""
    wired = getattr(psutil.virtual_memory(), "wired", None)
    return None if wired is None else int(wired)


def cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended.

    (psutil's fields for children are always 0 on macOS; `os.times` has them everywhere.)
    """
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def usage(
    scenario: str,
    seconds: float,
    cpu: float,
    gpu: Sequence[float | None] = (),
    wired: Sequence[int | None] = (),
) -> Usage:
    """Return the summary of what was sampled; nothing sampled stays `None`."""
    percents = [value for value in gpu if value is not None]
    held = [value for value in wired if value is not None]
    return Usage(
        scenario,
        seconds=seconds,
        cpu_percent=100 * cpu / seconds if seconds > 0 else 0.0,
        gpu_percent=mean(percents) if percents else None,
        wired_bytes=int(median(held)) if held else None,
        wired_swing_bytes=max(held) - min(held) if held else None,
    )


class Meter:
    """Watches the machine between entering and leaving, then has the `Usage` of that time.

    Samples at the beginning, every few seconds on a thread of its own, and at the end.
    """

    def __init__(self, scenario: str, asks: Probes, every: float = SAMPLE_SECONDS) -> None:
        self._scenario = scenario
        self._asks = asks
        self._every = every
        self._gpu: list[float | None] = []
        self._wired: list[int | None] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="usage", daemon=True)

    def __enter__(self) -> "Meter":
        self._cpu, self._start = cpu_seconds(), time.perf_counter()
        self._sample()
        if any(self._asks):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds = time.perf_counter() - self._start
        self._cpu = cpu_seconds() - self._cpu
        self._end.set()
        if any(self._asks):
            self._thread.join()
            self._sample()

    def usage(self) -> Usage:
        """Return what was seen; only after leaving."""
        return usage(self._scenario, self._seconds, self._cpu, self._gpu, self._wired)

    def _watch(self) -> None:
        while not self._end.wait(self._every):
            self._sample()

    def _sample(self) -> None:
        if self._asks.gpu:
            self._gpu.append(self._asks.gpu())
        if self._asks.wired:
            self._wired.append(self._asks.wired())
