"""How busy the GPU is, by what macOS's `ioreg` says of its accelerators."""

import re
import subprocess

COMMAND = ("/usr/sbin/ioreg", "-r", "-d", "1", "-c", "IOAccelerator", "-l")

_STATISTICS = re.compile(r'"PerformanceStatistics"\s*=\s*\{([^{}]*)\}')
_UTILIZATION = re.compile(r'"Device Utilization %"\s*=\s*(\d+)\b')


def device_utilization(text: str) -> float | None:
    """Return the utilization in percent of the busiest accelerator in `ioreg`'s output.

    `None` if no accelerator has that figure among its performance statistics: there is no
    substitute for it.
    """
    percents = [
        int(found[1])
        for statistics in _STATISTICS.finditer(text)
        if (found := _UTILIZATION.search(statistics[1]))
    ]
    return float(max(percents)) if percents else None


def gpu_percent() -> float | None:
    """Ask `ioreg` now; `None` if it does not answer."""
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return device_utilization(done.stdout)
