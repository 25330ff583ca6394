"""What the last words of a model process say about the GPU of a Mac, and what to do about it.

The names are those of macOS's IOGPU, as MLX passes them on: `[METAL] Command buffer execution
failed: Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)`.
Untested on Metal: the texts are from reports to MLX and to programs that use it.
"""

from typing import NamedTuple

WATCHDOG_SECONDS = 60.0
"""How long to wait after the watchdog: a process that comes at once is killed the same way."""

MOST_WATCHDOG_DEATHS = 30
"""How many of its deaths in a row, with no answer between, are nobody's fault.

That is half an hour and more of a display that stays on. What goes on longer may be the job after
all, and from then on such a death counts as any other does.
"""


class MetalFault(NamedTuple):
    """Why Metal ended a process: in words, with what helps.

    `by_watchdog` says that the work was in the way of the display: that is no fault of the job.
    """

    told: str
    cure: str
    by_watchdog: bool = False


WATCHDOG = MetalFault(
    "macOS ends long GPU work while the display is on",
    "let the display sleep, for work keeps the Mac awake all the same (untested on Metal)",
    by_watchdog=True,
)
OUT_OF_MEMORY = MetalFault(
    "the GPU had too little memory",
    "close other programs, lower prefix_cache_bytes or max_kv_size, or take a smaller model "
    "(untested on Metal)",
)

_SIGNS = {
    "kIOGPUCommandBufferCallbackErrorTimeout": WATCHDOG,
    "kIOGPUCommandBufferCallbackErrorImpactingInteractivity": WATCHDOG,
    "kIOGPUCommandBufferCallbackErrorOutOfMemory": OUT_OF_MEMORY,
    # MLX's own allocator: the buffer was not even made
    "[metal::malloc]": OUT_OF_MEMORY,
    "[malloc] Unable to allocate": OUT_OF_MEMORY,
}


def is_command_buffer_fault(message: str) -> bool:
    """Whether an error is of the GPU's own work, behind which the process is of no more use.

    A buffer that MLX could not even make is not: the next prompt may ask for less.
    """
    return "kIOGPUCommandBuffer" in message


def metal_fault(stderr_tail: str) -> MetalFault | None:
    """Return what Metal ended a process for, by the end of what that wrote; `None` if it did not.

    Where several faults are named, the last one did it.
    """
    found = [(stderr_tail.rfind(sign), fault) for sign, fault in _SIGNS.items()]
    position, fault = max(found, key=lambda each: each[0])
    return fault if position >= 0 else None
