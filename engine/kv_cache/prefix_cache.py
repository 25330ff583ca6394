"""The prefix cache: states of prompt beginnings, kept for prompts that begin alike."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from .caches import arrays, copied
from .chunking import ChunkBoundary, PromptParts, Retention, last_shared, states_to_keep

REMEMBERED = 8192
"""How many digests are remembered, to see which beginnings recur."""


@dataclass(frozen=True)
class _Snapshot:
    """The caches at a boundary; `nbytes` counts the arrays and the ids."""

    ids: bytes
    caches: list[Any]
    nbytes: int


class _Snapshots:
    """Snapshots of one kind by digest, least recently used first, and their size."""

    def __init__(self) -> None:
        self.by_digest: OrderedDict[bytes, _Snapshot] = OrderedDict()
        self.nbytes = 0

    def put(self, digest: bytes, snapshot: _Snapshot) -> None:
        """Add a snapshot as the most recently used."""
        self.by_digest[digest] = snapshot
        self.nbytes += snapshot.nbytes

    def use(self, digest: bytes) -> None:
        """Make a snapshot the most recently used, if it is here."""
        if digest in self.by_digest:
            self.by_digest.move_to_end(digest)

    def drop(self, digest: bytes) -> None:
        """Drop a snapshot, if it is here."""
        snapshot = self.by_digest.pop(digest, None)
        if snapshot is not None:
            self.nbytes -= snapshot.nbytes


class PrefixCache:
    """Snapshots of caches by prompt beginning, least recently used out first.

    Rotating caches cannot be trimmed once they have wrapped, so what is kept are copies, shared
    with the running caches until one of the two is written to. A beginning is found by a hash of
    all its tokens and then compared with them.

    There are two kinds: beginnings that other conversations share, and states that only the same
    conversation continues from, which every prompt leaves. The kind that takes more than half of
    the limit is evicted first. So a thousand jobs that share nothing do not evict the instructions
    and documents of others, and these do not evict a conversation's last turn.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Keep at most `limit_bytes` of state; 0 switches reuse off."""
        self._limit = limit_bytes
        self._others, self._own = _Snapshots(), _Snapshots()
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._others.by_digest) + len(self._own.by_digest)

    @property
    def nbytes(self) -> int:
        """The size of all snapshots in bytes, an upper bound: they share arrays."""
        return self._others.nbytes + self._own.nbytes

    def deepest(
        self, boundaries: Sequence[ChunkBoundary], parts: PromptParts
    ) -> tuple[int, list[Any]] | None:
        """Return the index of the last boundary whose state is here, and a copy of it; else `None`.

        It counts as used, and so does the end of the instructions, which the next job begins with:
        successive turns never use it again and would evict it.
        """
        for index in reversed(range(len(boundaries))):
            snapshot = self._find(boundaries[index])
            if snapshot is not None:
                self._use(boundaries[index])
                self._use(last_shared(boundaries, parts.instructions))
                return index, copied(snapshot.caches)
        return None

    def _find(self, boundary: ChunkBoundary) -> _Snapshot | None:
        for kind in (self._others, self._own):
            snapshot = kind.by_digest.get(boundary.digest)
            if snapshot is not None and snapshot.ids == boundary.ids:
                return snapshot
        return None

    def _use(self, boundary: ChunkBoundary | None) -> None:
        if boundary is not None:
            self._others.use(boundary.digest)
            self._own.use(boundary.digest)

    def plan(
        self, boundaries: Sequence[ChunkBoundary], parts: PromptParts
    ) -> dict[bytes, Retention]:
        """Return the retention of the states to put in, and remember the prompt's boundaries."""
        if not self._limit:
            return {}
        wanted = states_to_keep(boundaries, parts, self._seen)
        for boundary in boundaries:
            self._seen[boundary.digest] = None
            self._seen.move_to_end(boundary.digest)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return wanted

    def put(self, boundary: ChunkBoundary, caches: list[Any], keep: Retention) -> None:
        """Keep a copy of `caches` as they are at `boundary`, unless it alone exceeds the limit."""
        stored = arrays(caches)
        nbytes = len(boundary.ids) + sum(array.nbytes for array in stored)
        if nbytes > self._limit:
            return
        # a copy of what is not yet computed would be computed a second time
        mx.eval(stored)
        self.drop(boundary.digest)
        kind = self._others if keep.for_others else self._own
        kind.put(boundary.digest, _Snapshot(bytes(boundary.ids), copied(caches), nbytes))
        if keep.yields_to is not None:
            kind.use(keep.yields_to)
        while self.nbytes > self._limit:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop the least recently used of the kind that takes more than half; its last stays."""
        larger, smaller = self._others, self._own
        if larger.nbytes < smaller.nbytes:
            larger, smaller = smaller, larger
        kind = larger if len(larger.by_digest) > 1 or not smaller.by_digest else smaller
        kind.drop(next(iter(kind.by_digest)))

    def drop(self, digest: bytes) -> None:
        """Drop the state of a boundary, if it is here."""
        self._others.drop(digest)
        self._own.drop(digest)

    def clear(self) -> None:
        """Drop all states."""
        self._others, self._own = _Snapshots(), _Snapshots()
