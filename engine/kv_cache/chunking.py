"""Where a prompt is cut into chunks, and which states are kept for prompts that begin alike.

The chunks decide the last bits of the logits. So their boundaries depend on the prompt alone, never
on what happens to be cached, and the digest of a boundary covers the boundaries before it as well
as the tokens. Each boundary depends only on what stands before it: prompts that begin alike have
the same boundaries as far as they do.
"""

import array
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

CLOSE = 32
"""No boundary is set at the end of a message within this many tokens behind another boundary.

Each chunk reads all weights, so short ones cost as much time as long ones.
"""


class PromptParts(NamedTuple):
    """Where the parts of a rendered prompt end, each as the number of tokens before that place.

    `instructions` is where the instructions end, 0 if nothing marks it. `messages` are where
    messages end, ascending: the same in all prompts that share the tokens before them. `guidance`
    is the last place that a prompt shares with the same prompt with other guidance or none.
    """

    instructions: int
    messages: tuple[int, ...]
    guidance: int


@dataclass(frozen=True, slots=True)
class ChunkBoundary:
    """A place where a chunk of a prompt ends: `end` tokens lie before it.

    `digest` is the SHA-256 of the caches' layout and of all chunks up to here, lengths included.
    `ids` are the prompt's ids up to here as native uint32. `shared` says that longer prompts which
    begin like this one have this boundary too; the end of the prompt itself is not shared.
    """

    end: int
    digest: bytes
    ids: memoryview
    shared: bool = True


class Retention(NamedTuple):
    """The retention policy of a state: for other conversations, or only for its own.

    If memory is short, this state is dropped first, then the one of the digest `yields_to`.
    """

    for_others: bool
    yields_to: bytes | None = None


def boundary_places(last: int, parts: Sequence[int], step: int) -> tuple[int, ...]:
    """Return the boundaries that a prompt shares with all that begin alike, ascending, to `last`.

    They are at `parts`, which ascend, except for those too close behind another boundary, and every
    `step` tokens behind a boundary.
    """
    close = min(CLOSE, step - 1)
    found = [0]
    for place in parts:
        if place > last:
            break
        found += _every_step(found[-1], place, step)
        if place - found[-1] > close:
            found.append(place)
    found += _every_step(found[-1], last + 1, step)
    return tuple(found[1:])


def _every_step(begin: int, end: int, step: int) -> Iterator[int]:
    """Yield every `step`th place behind `begin` that lies before `end`."""
    yield from range(begin + step, end, step)


def chunk_boundaries(
    tokens: Sequence[int], parts: PromptParts, step: int, layout: str
) -> tuple[ChunkBoundary, ...]:
    """Return the boundaries of a prompt's chunks, for caches of this layout.

    The last one lies before the last token, which is left to the decode: its logits give the first
    token of the answer.
    """
    last = len(tokens) - 1
    places = sorted({parts.instructions, *parts.messages})
    shared = boundary_places(last, places, step)
    own = () if not last or shared[-1:] == (last,) else (last,)
    ids = memoryview(array.array("I", tokens).tobytes())
    digest = hashlib.sha256(layout.encode())
    boundaries = []
    begin = 0
    for end in (*shared, *own):
        digest.update((end - begin).to_bytes(8, "little"))
        digest.update(ids[4 * begin : 4 * end])
        boundaries.append(ChunkBoundary(end, digest.digest(), ids[: 4 * end], end not in own))
        begin = end
    return tuple(boundaries)


def last_shared(boundaries: Sequence[ChunkBoundary], end: int) -> ChunkBoundary | None:
    """Return the last shared boundary that lies at most at `end`, `None` if there is none."""
    return next(
        (boundary for boundary in reversed(boundaries) if boundary.shared and boundary.end <= end),
        None,
    )


def states_to_keep(
    boundaries: Sequence[ChunkBoundary], parts: PromptParts, seen: Collection[bytes]
) -> dict[bytes, Retention]:
    """Return the retention of the states that are likely to be used again, at most four.

    These are: the last boundary that the next attempt and the next turn share with this prompt; the
    last of all, if guidance or a response prefill lies between; the end of the instructions, for
    the next job; and the deepest that an earlier prompt (whose digests are `seen`) had as well,
    such as the end of a document that jobs share.
    """
    common = last_shared(boundaries, parts.guidance)
    deepest = last_shared(boundaries, boundaries[-1].end) if boundaries else None
    again = _deepest_seen(boundaries, seen)
    instructions = last_shared(boundaries, parts.instructions)
    below = None if common is None else common.digest
    wanted = (
        (deepest, Retention(for_others=False, yields_to=below)),
        (again, Retention(for_others=again is not None and again.shared)),
        (common, Retention(for_others=False)),
        (instructions, Retention(for_others=True)),
    )
    # of two reasons to keep the same state, the later one counts
    return {boundary.digest: retention for boundary, retention in wanted if boundary is not None}


def _deepest_seen(
    boundaries: Sequence[ChunkBoundary], seen: Collection[bytes]
) -> ChunkBoundary | None:
    """Return the last of the boundaries `seen`, not counting one that ends close behind another."""
    found: ChunkBoundary | None = None
    before = 0
    for boundary in boundaries:
        if boundary.digest in seen and (boundary.shared or boundary.end - before > CLOSE):
            found = boundary
        before = boundary.end
    return found
