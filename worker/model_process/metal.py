"""Faults of a Mac's GPU, recognised in the log of the model process, and what helps.

The names are those of macOS's IOGPU, as MLX passes them on: `[METAL] Command buffer execution
failed: Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)`.
Untested on Metal: the texts are from reports to MLX and to programs that use it.
"""

from typing import NamedTuple

WATCHDOG_SECONDS = 60.0
"""How long to wait after the watchdog: a process started at once is killed the same way."""


class MetalFault(NamedTuple):
    """Why Metal ended a process, and what helps.

    `by_watchdog`: the work kept the display from updating, which is not the job's fault.
    """

    message: str
    cure: str
    by_watchdog: bool = False


WATCHDOG = MetalFault(
    "macOS ends long GPU work while the display is on",
    "let the display sleep: `mh-batch work` keeps the Mac awake anyway (untested on Metal)",
    by_watchdog=True,
)
OUT_OF_MEMORY = MetalFault(
    "the GPU had too little memory",
    "close other programs, lower prefix_cache_bytes or max_kv_size, or use a smaller model "
    "(untested on Metal)",
)

_SIGNS = {
    "kIOGPUCommandBufferCallbackErrorTimeout": WATCHDOG,
    "kIOGPUCommandBufferCallbackErrorImpactingInteractivity": WATCHDOG,
    "kIOGPUCommandBufferCallbackErrorOutOfMemory": OUT_OF_MEMORY,
    # MLX's own allocator: the buffer was not allocated
    "[metal::malloc]": OUT_OF_MEMORY,
    "[malloc] Unable to allocate": OUT_OF_MEMORY,
}


def is_command_buffer_fault(message: str) -> bool:
    """Whether an error is a failed command buffer, after which the process cannot be used.

    A buffer that MLX could not allocate is none: the next prompt may need less.
    """
    return "kIOGPUCommandBuffer" in message


def metal_fault(stderr_tail: str) -> MetalFault | None:
    """Return the Metal fault that ended a process, by the end of its log; `None` if none did.

    If several are named, the last one counts.
    """
    found = [(stderr_tail.rfind(sign), fault) for sign, fault in _SIGNS.items()]
    position, fault = max(found, key=lambda each: each[0])
    return fault if position >= 0 else None
