"""Where a prompt is cut into portions, and by which key each cut's state is found again.

How a prompt is cut decides the last bits of the logits. So the cuts depend on the prompt alone,
never on what happens to be cached, and a key covers the cuts before it as well as the tokens.
Going through the prompt from its beginning, each cut depends only on what stands before it: prompts
that begin alike are cut alike as far as they do.
"""

import array
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

CLOSE = 32
"""A message boundary at most this many tokens behind a cut is none: a portion reads all weights."""


class Boundaries(NamedTuple):
    """Places in a rendered prompt, each as the number of tokens before it.

    `instructions` is where the instructions end, 0 if nothing marks it. `messages` are where
    messages end, ascending: places that all prompts have which share the tokens before them.
    `guidance` is the last place that a prompt shares with the same one with other guidance or none.
    """

    instructions: int
    messages: tuple[int, ...]
    guidance: int


@dataclass(frozen=True, slots=True)
class Cut:
    """One place where a prompt is cut: `end` tokens lie before it.

    `digest` is the SHA-256 of the caches' layout and of all portions up to here, lengths
    included. `ids` are the prompt's ids up to here as native uint32. `shared` says that longer
    prompts which begin like this one are cut here too: not so where it ends only for this one.
    """

    end: int
    digest: bytes
    ids: memoryview
    shared: bool = True


class Retention(NamedTuple):
    """For whom a state is kept: for the prompts of other conversations, or those of its own.

    Where there is no room for both it goes before the state of the digest `yields_to`.
    """

    for_others: bool
    yields_to: bytes | None = None


def ends(last: int, boundaries: Sequence[int], step: int) -> tuple[int, ...]:
    """Return where a prompt is cut like all that begin like it, ascending, up to `last`.

    At `boundaries`, which ascend, but for those too close behind another cut, and every `step`
    tokens behind a cut.
    """
    close = min(CLOSE, step - 1)
    found = [0]
    for place in boundaries:
        if place > last:
            break
        found += _grid(found[-1], place, step)
        if place - found[-1] > close:
            found.append(place)
    found += _grid(found[-1], last + 1, step)
    return tuple(found[1:])


def _grid(begin: int, end: int, step: int) -> Iterator[int]:
    """Yield every `step`th place behind `begin` that lies before `end`."""
    yield from range(begin + step, end, step)


def make_cuts(
    tokens: Sequence[int], boundaries: Boundaries, step: int, layout: str
) -> tuple[Cut, ...]:
    """Return the cuts of a prompt with their keys, for caches of this layout.

    The last one lies before the last token, which is held back: its logits are what the prompt is
    read for.
    """
    last = len(tokens) - 1
    places = sorted({boundaries.instructions, *boundaries.messages})
    shared = ends(last, places, step)
    own = () if not last or shared[-1:] == (last,) else (last,)
    ids = memoryview(array.array("I", tokens).tobytes())
    digest = hashlib.sha256(layout.encode())
    cuts = []
    begin = 0
    for end in (*shared, *own):
        digest.update((end - begin).to_bytes(8, "little"))
        digest.update(ids[4 * begin : 4 * end])
        cuts.append(Cut(end, digest.digest(), ids[: 4 * end], end not in own))
        begin = end
    return tuple(cuts)


def last_shared(cuts: Sequence[Cut], end: int) -> Cut | None:
    """Return the last cut of longer prompts as well that lies at most at `end`, `None` if none."""
    return next((cut for cut in reversed(cuts) if cut.shared and cut.end <= end), None)


def states_to_keep(
    cuts: Sequence[Cut], boundaries: Boundaries, seen: Collection[bytes]
) -> dict[bytes, Retention]:
    """Return the digests of the cuts whose states are likely to be wanted again, at most four.

    The last one that the next attempt and the next turn share with this prompt, at first sight;
    the last of all, if guidance or the beginning of an answer lies between; the end of the
    instructions, for the next job; and the deepest that an earlier prompt (whose digests are
    `seen`) has come by as well, such as a document that jobs share.
    """
    common = last_shared(cuts, boundaries.guidance)
    deepest = last_shared(cuts, cuts[-1].end) if cuts else None
    again = _deepest_seen(cuts, seen)
    instructions = last_shared(cuts, boundaries.instructions)
    below = None if common is None else common.digest
    wanted = (
        (deepest, Retention(for_others=False, yields_to=below)),
        (again, Retention(for_others=again is not None and again.shared)),
        (common, Retention(for_others=False)),
        (instructions, Retention(for_others=True)),
    )
    # of two reasons to keep the same state the later one counts
    return {cut.digest: retention for cut, retention in wanted if cut is not None}


def _deepest_seen(cuts: Sequence[Cut], seen: Collection[bytes]) -> Cut | None:
    """Return the last of the cuts `seen`, not counting one that ends close behind another."""
    found: Cut | None = None
    before = 0
    for cut in cuts:
        if cut.digest in seen and (cut.shared or cut.end - before > CLOSE):
            found = cut
        before = cut.end
    return found
