"""Which conversations may hold caches at the same time."""

from .support import SlotSupport

GROWTH = 256
"""Caches grow by so many positions at once."""


def cache_bytes(support: SlotSupport, max_kv_size: int | None, positions: int) -> int:
    """Return what caches take once they hold `positions`: prompt and `max_tokens` together.

    `max_kv_size` is the window over full attention, `None` for none.
    """
    grown = -(-positions // GROWTH) * GROWTH
    kept = (
        (grown if limit is None else min(grown, limit))
        for limit in (window or max_kv_size for window in support.windows)
    )
    return sum(size * count for size, count in zip(support.position_bytes, kept, strict=True))


class Admission:
    """Counts the caches of admitted conversations against a limit.

    It decides when a conversation begins, never what comes out of it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._admitted: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._admitted)

    @property
    def nbytes(self) -> int:
        """What the admitted conversations will take."""
        return sum(self._admitted.values())

    def admit(self, key: int, nbytes: int) -> bool:
        """Admit a conversation if it fits, or if it is alone; return whether it is admitted."""
        if self._admitted and self.nbytes + nbytes > self._limit:
            return False
        self._admitted[key] = nbytes
        return True

    def release(self, key: int) -> None:
        """Forget a conversation that is over, if it was admitted."""
        self._admitted.pop(key, None)
