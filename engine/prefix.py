"""The states of prompt beginnings, kept for the prompts that begin alike."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from .cuts import Cut, worth_keeping

REMEMBERED = 8192
"""How many digests of cuts are remembered, to tell which beginnings come again."""


@dataclass(frozen=True)
class _Snapshot:
    """Caches as they stood at a cut; `nbytes` counts the arrays and the ids."""

    ids: bytes
    caches: list[Any]
    nbytes: int


class PrefixCache:
    """Snapshots of caches by prompt beginning, least recently used out first.

    Rotating caches cannot be trimmed once they have wrapped, so what is kept are copies, shared
    with the running caches until one of the two is written to. A beginning is found by a hash of
    all its tokens and then compared with them.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Keep at most `limit_bytes` of state; 0 switches reuse off."""
        self._limit = limit_bytes
        self._snapshots: OrderedDict[bytes, _Snapshot] = OrderedDict()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._snapshots)

    @property
    def nbytes(self) -> int:
        """The bytes held: as if nothing were shared, so rather too many."""
        return self._nbytes

    def deepest(self, cuts: Sequence[Cut], prefix_end: int) -> tuple[int, list[Any]] | None:
        """Return the index of the last cut whose state is here, and a copy of it; else `None`.

        That one counts as used, and the end of the instructions too, which the next job begins
        with: turns that build on each other would push it out, for they never name it again.
        """
        here = [index for index, cut in enumerate(cuts) if self._holds(cut)]
        if not here:
            return None
        last = here[-1]
        used = [cuts[last], *(cuts[index] for index in here if cuts[index].end == prefix_end)]
        for cut in used:
            self._snapshots.move_to_end(cut.digest)
        return last, copy.deepcopy(self._snapshots[cuts[last].digest].caches)

    def _holds(self, cut: Cut) -> bool:
        snapshot = self._snapshots.get(cut.digest)
        return snapshot is not None and snapshot.ids == cut.ids

    def plan(self, cuts: Sequence[Cut], prefix_end: int) -> frozenset[bytes]:
        """Return the digests of the cuts to put in, and remember that the prompt came by."""
        if not self._limit:
            return frozenset()
        wanted = worth_keeping(cuts, prefix_end, self._seen)
        for cut in cuts:
            self._seen[cut.digest] = None
            self._seen.move_to_end(cut.digest)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return wanted

    def put(self, cut: Cut, caches: list[Any]) -> None:
        """Keep a copy of `caches` as they stand at `cut`, unless it alone exceeds the limit."""
        arrays = [part for _, part in tree_flatten([c.state for c in caches]) if _is_array(part)]
        nbytes = len(cut.ids) + sum(part.nbytes for part in arrays)
        if nbytes > self._limit:
            return
        # copies of what is not yet computed would compute it twice
        mx.eval(arrays)
        self.drop(cut.digest)
        self._snapshots[cut.digest] = _Snapshot(bytes(cut.ids), copy.deepcopy(caches), nbytes)
        self._nbytes += nbytes
        while self._nbytes > self._limit:
            self.drop(next(iter(self._snapshots)))

    def drop(self, digest: bytes) -> None:
        """Forget the state of a cut, if it is here."""
        snapshot = self._snapshots.pop(digest, None)
        if snapshot is not None:
            self._nbytes -= snapshot.nbytes

    def clear(self) -> None:
        """Forget all states."""
        self._snapshots.clear()
        self._nbytes = 0


def _is_array(part: Any) -> bool:
    return isinstance(part, mx.array)
