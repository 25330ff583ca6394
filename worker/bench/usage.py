"""What a scenario uses of the machine: processor, GPU, memory."""

import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import psutil

from mh_batch.worker.bench.report.report import Usage

SAMPLE_SECONDS = 2.0
IOREG = ("/usr/sbin/ioreg", "-r", "-d", "1", "-c", "IOAccelerator", "-l")

_STATISTICS = re.compile(r'"PerformanceStatistics"\s*=\s*\{([^{}]*)\}')
_UTILIZATION = re.compile(r'"Device Utilization %"\s*=\s*(\d+)\b')
_STATUS = Path("/proc/self/status")


class Probes(NamedTuple):
    """Functions that measure now; `None` for what this machine cannot measure."""

    gpu: Callable[[], float | None] | None = None
    wired: Callable[[], int | None] | None = None


def probes(platform: str = sys.platform) -> Probes:
    """Return the probes of this machine: both on macOS, else none."""
    return Probes(gpu_percent, wired_bytes) if platform == "darwin" else Probes()


def wired_bytes() -> int | None:
    """Return the memory that cannot be paged out, `None` where psutil does not have it."""
    wired = getattr(psutil.virtual_memory(), "wired", None)
    return None if wired is None else int(wired)


def device_utilization(text: str) -> float | None:
    """Return the utilization in percent of the busiest accelerator in `ioreg`'s output.

    `None` if no accelerator has that figure in its performance statistics.
    """
    percents = [
        int(found[1])
        for statistics in _STATISTICS.finditer(text)
        if (found := _UTILIZATION.search(statistics[1]))
    ]
    return float(max(percents)) if percents else None


def gpu_percent() -> float | None:
    """Run `ioreg`; return the utilization of the GPU, `None` if it fails."""
    try:
        done = subprocess.run(IOREG, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return device_utilization(done.stdout)


def peak_memory() -> int:
    """Return the peak of this process's resident memory in bytes.

    Linux's `ru_maxrss` is not usable: a child inherits it from its parent.
    """
    if _STATUS.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text("ascii"))
        if found is not None:
            return int(found[1]) << 10
    # macOS counts in bytes, all others in KiB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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
    """Summarize the samples; `None` for what has none."""
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
    """A context manager that measures the machine during its block, for `usage`.

    Samples at the beginning, every few seconds on a thread of its own, and at the end.
    """

    def __init__(self, scenario: str, probes: Probes, every: float = SAMPLE_SECONDS) -> None:
        self._scenario = scenario
        self._probes = probes
        self._every = every
        self._gpu: list[float | None] = []
        self._wired: list[int | None] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="usage", daemon=True)

    def __enter__(self) -> "Meter":
        self._cpu, self._start = cpu_seconds(), time.perf_counter()
        self._sample()
        if any(self._probes):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds = time.perf_counter() - self._start
        self._cpu = cpu_seconds() - self._cpu
        self._end.set()
        if any(self._probes):
            self._thread.join()
            self._sample()

    def usage(self) -> Usage:
        """Return the usage; to be called after the block."""
        return usage(self._scenario, self._seconds, self._cpu, self._gpu, self._wired)

    def _watch(self) -> None:
        while not self._end.wait(self._every):
            self._sample()

    def _sample(self) -> None:
        if self._probes.gpu:
            self._gpu.append(self._probes.gpu())
        if self._probes.wired:
            self._wired.append(self._probes.wired())
