"""Where a prompt is cut into portions, and by which key each cut's state is found again.

How a prompt is cut decides the last bits of the logits. So the cuts depend on the prompt alone,
never on what happens to be cached, and a key covers the cuts before it as well as the tokens.
"""

import array
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """One place where a prompt is cut: `end` tokens lie before it.

    `digest` is the SHA-256 of the caches' layout and of all portions up to here, lengths
    included. `ids` are the prompt's ids up to here as native uint32.
    """

    end: int
    digest: bytes
    ids: memoryview


def ends(length: int, prefix_end: int, step: int) -> tuple[int, ...]:
    """Return where a prompt of `length` tokens is cut, ascending.

    At `prefix_end`, where the instructions end, every `step` tokens before and behind it, and
    before the last token, which is held back: its logits are what the prompt is read for.
    """
    last = length - 1
    prefix_end = min(prefix_end, last)
    grid = (*range(step, prefix_end, step), *range(prefix_end, last, step), last)
    return tuple(end for end in grid if end > 0)


def make_cuts(tokens: Sequence[int], cut_ends: Sequence[int], layout: str) -> tuple[Cut, ...]:
    """Return the cuts of a prompt with their keys."""
    ids = memoryview(array.array("I", tokens).tobytes())
    digest = hashlib.sha256(layout.encode())
    cuts = []
    begin = 0
    for end in cut_ends:
        digest.update((end - begin).to_bytes(8, "little"))
        digest.update(ids[4 * begin : 4 * end])
        cuts.append(Cut(end, digest.digest(), ids[: 4 * end]))
        begin = end
    return tuple(cuts)


def worth_keeping(
    cuts: Sequence[Cut], prefix_end: int, seen: Collection[bytes]
) -> frozenset[bytes]:
    """Return the digests of the cuts whose states are likely to be wanted again, at most three.

    The end of the instructions, for the next job; the last one on the grid, for the next turn;
    and the deepest that an earlier prompt (whose digests are `seen`) has come by as well, be it a
    document that jobs share or the whole prompt of a retry.
    """
    wanted = {cut.digest for cut in cuts if cut.end == prefix_end}
    wanted.update(cut.digest for cut in cuts[-2:-1])
    wanted.update([cut.digest for cut in cuts if cut.digest in seen][-1:])
    return frozenset(wanted)
