"""The most memory that this process has held."""

import re
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_memory() -> int:
    """Return the peak of the resident memory in bytes, since the program was started.

    Linux's `ru_maxrss` will not do: a child begins with what its parent had when it was started.
    """
    if _STATUS.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text("ascii"))
        if found is not None:
            return int(found[1]) << 10
    # macOS counts in bytes, all others in KiB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
