"""The states of prompt beginnings, kept for the prompts that begin alike."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from .caches import arrays, copied
from .chunking import Boundaries, Cut, Retention, last_shared, states_to_keep

REMEMBERED = 8192
"""How many digests of cuts are remembered, to tell which beginnings come again."""


@dataclass(frozen=True)
class _Snapshot:
    """Caches as they stood at a cut; `nbytes` counts the arrays and the ids."""

    ids: bytes
    caches: list[Any]
    nbytes: int


class _Snapshots:
    """Snapshots of one kind by digest, least recently used first, and what they take."""

    def __init__(self) -> None:
        self.by_digest: OrderedDict[bytes, _Snapshot] = OrderedDict()
        self.nbytes = 0

    def put(self, digest: bytes, snapshot: _Snapshot) -> None:
        """Take one in as the latest used."""
        self.by_digest[digest] = snapshot
        self.nbytes += snapshot.nbytes

    def use(self, digest: bytes) -> None:
        """Make it the latest used, if it is here."""
        if digest in self.by_digest:
            self.by_digest.move_to_end(digest)

    def drop(self, digest: bytes) -> None:
        """Forget it, if it is here."""
        snapshot = self.by_digest.pop(digest, None)
        if snapshot is not None:
            self.nbytes -= snapshot.nbytes


class PrefixCache:
    """Snapshots of caches by prompt beginning, least recently used out first.

    Rotating caches cannot be trimmed once they have wrapped, so what is kept are copies, shared
    with the running caches until one of the two is written to. A beginning is found by a hash of
    all its tokens and then compared with them.

    There are two kinds: what other conversations begin with, and what only this one goes on from,
    as every prompt leaves some. Of the two the one gives way that takes more than half of the
    limit. So a thousand jobs that share nothing leave the instructions and documents of others
    where they are, and these leave a conversation its last turn.
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
        """The bytes held: as if nothing were shared, so rather too many."""
        return self._others.nbytes + self._own.nbytes

    def deepest(self, cuts: Sequence[Cut], boundaries: Boundaries) -> tuple[int, list[Any]] | None:
        """Return the index of the last cut whose state is here, and a copy of it; else `None`.

        That one counts as used, and the end of the instructions too, which the next job begins
        with: turns that build on each other would push it out, for they never name it again.
        """
        for index in reversed(range(len(cuts))):
            snapshot = self._find(cuts[index])
            if snapshot is not None:
                self._use(cuts[index])
                self._use(last_shared(cuts, boundaries.instructions))
                return index, copied(snapshot.caches)
        return None

    def _find(self, cut: Cut) -> _Snapshot | None:
        for kind in (self._others, self._own):
            snapshot = kind.by_digest.get(cut.digest)
            if snapshot is not None and snapshot.ids == cut.ids:
                return snapshot
        return None

    def _use(self, cut: Cut | None) -> None:
        if cut is not None:
            self._others.use(cut.digest)
            self._own.use(cut.digest)

    def plan(self, cuts: Sequence[Cut], boundaries: Boundaries) -> dict[bytes, Retention]:
        """Return the digests of the cuts to put in, and remember that the prompt came by."""
        if not self._limit:
            return {}
        wanted = states_to_keep(cuts, boundaries, self._seen)
        for cut in cuts:
            self._seen[cut.digest] = None
            self._seen.move_to_end(cut.digest)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return wanted

    def put(self, cut: Cut, caches: list[Any], keep: Retention) -> None:
        """Keep a copy of `caches` as they stand at `cut`, unless it alone exceeds the limit."""
        held = arrays(caches)
        nbytes = len(cut.ids) + sum(array.nbytes for array in held)
        if nbytes > self._limit:
            return
        # copies of what is not yet computed would compute it twice
        mx.eval(held)
        self.drop(cut.digest)
        kind = self._others if keep.for_others else self._own
        kind.put(cut.digest, _Snapshot(bytes(cut.ids), copied(caches), nbytes))
        if keep.yields_to is not None:
            kind.use(keep.yields_to)
        while self.nbytes > self._limit:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop the least recently used of the kind that takes more than half, but its last."""
        larger, smaller = self._others, self._own
        if larger.nbytes < smaller.nbytes:
            larger, smaller = smaller, larger
        kind = larger if len(larger.by_digest) > 1 or not smaller.by_digest else smaller
        kind.drop(next(iter(kind.by_digest)))

    def drop(self, digest: bytes) -> None:
        """Forget the state of a cut, if it is here."""
        self._others.drop(digest)
        self._own.drop(digest)

    def clear(self) -> None:
        """Forget all states."""
        self._others, self._own = _Snapshots(), _Snapshots()
