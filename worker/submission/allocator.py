"""What the C library does with memory that is free again."""

import ctypes

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_LARGE = 1 << 20


def give_large_blocks_back() -> None:
    """Have blocks of the size of a long line go back to the system as soon as they are free.

    glibc takes such a block from the system once, and the next ones from a heap whose holes it
    keeps: a quarter of all memory that long lines may take. Other C libraries have no such
    setting, and no need of it. It is of the whole process.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
