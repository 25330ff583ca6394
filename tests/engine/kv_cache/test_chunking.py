"""Where prompts are cut: prompts that begin alike are cut alike, and no chunk is tiny."""

import itertools
import random
from bisect import bisect_right
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mh_batch.engine.kv_cache.chunking import (
    CLOSE,
    ChunkBoundary,
    PromptParts,
    Retention,
    boundary_places,
    chunk_boundaries,
    last_shared,
    states_to_keep,
)

LASTS = st.integers(0, 500)
STEPS = st.integers(2, 100)
PLACES = st.lists(st.integers(0, 600), max_size=30).map(sorted)


def part(*places: int, instructions: int = 0, guidance: int | None = None) -> PromptParts:
    """The parts of a prompt; guidance would begin at the last one unless told otherwise."""
    last = places[-1] if places else instructions
    return PromptParts(instructions, places, last if guidance is None else guidance)


def cut(length: int, parts: PromptParts, step: int = 512) -> tuple[ChunkBoundary, ...]:
    return chunk_boundaries(range(length), parts, step, "x")


def kept(
    boundaries: Sequence[ChunkBoundary], parts: PromptParts, seen: Sequence[ChunkBoundary] = ()
) -> dict[int, Retention]:
    """What is kept of a prompt, by place."""
    found = states_to_keep(boundaries, parts, {boundary.digest for boundary in seen})
    return {
        boundary.end: found[boundary.digest] for boundary in boundaries if boundary.digest in found
    }


@given(LASTS, PLACES, STEPS)
def test_chunks_have_at_most_a_step_and_more_than_is_too_close(
    last: int, places: list[int], step: int
) -> None:
    found = (0, *boundary_places(last, places, step))
    gaps = [after - before for before, after in itertools.pairwise(found)]
    assert all(min(CLOSE, step - 1) < gap <= step for gap in gaps)
    assert last - step < found[-1] <= last


@given(LASTS, LASTS, PLACES, PLACES, st.integers(0, 500), STEPS)
def test_prompts_that_begin_alike_are_cut_alike_as_far_as_they_do(
    one: int, other: int, places: list[int], others: list[int], shared: int, step: int
) -> None:
    shared = min(shared, one, other)
    both = places[: bisect_right(places, shared)]
    found = boundary_places(one, [*both, *(place for place in places if place > shared)], step)
    alike = boundary_places(other, [*both, *(place for place in others if place > shared)], step)
    assert [end for end in found if end <= shared] == [end for end in alike if end <= shared]


@given(LASTS, PLACES, STEPS)
def test_every_boundary_has_a_cut_close_before_it(last: int, places: list[int], step: int) -> None:
    found = (0, *boundary_places(last, places, step))
    for place in places:
        if place <= last:
            before = found[bisect_right(found, place) - 1]
            assert place - before <= min(CLOSE, step - 1)


def test_cuts_are_at_boundaries_and_on_a_grid_between_them() -> None:
    assert boundary_places(999, (300,), 200) == (200, 300, 500, 700, 900)
    assert boundary_places(999, (), 512) == (512,)
    assert boundary_places(512, (), 512) == (512,)
    assert boundary_places(0, (), 16) == ()
    assert boundary_places(1, (), 16) == ()


def test_of_two_close_places_the_first_is_a_cut() -> None:
    assert boundary_places(400, (100, 132, 133), 512) == (100, 133)
    assert boundary_places(400, (32, 33, 65, 66), 512) == (33, 66)
    # also where it is on the grid
    assert boundary_places(400, (210, 240), 200) == (200, 240)
    # a step below what is too close is kept to
    assert boundary_places(60, (5, 16, 20, 40), 16) == (16, 32, 48)


def test_the_last_token_is_held_back_by_a_cut_that_others_do_not_have() -> None:
    assert [(c.end, c.shared) for c in cut(200, part(100, 190))] == [
        (100, True),
        (190, True),
        (199, False),
    ]
    assert [(c.end, c.shared) for c in cut(200, part(100, 199))] == [(100, True), (199, True)]
    assert [(c.end, c.shared) for c in cut(129, part(), step=64)] == [(64, True), (128, True)]
    assert [(c.end, c.shared) for c in cut(2, part())] == [(1, False)]
    assert cut(1, part()) == ()


def test_a_key_covers_the_tokens_the_cuts_and_the_layout() -> None:
    def key(tokens: Sequence[int], *places: int, layout: str = "x", end: int = 90) -> bytes:
        boundaries = chunk_boundaries(tokens, part(*places), 512, layout)
        return next(c.digest for c in boundaries if c.end == end)

    tokens = list(range(100))
    base = key(tokens, 40, 90)
    assert key([*tokens, 7, 8], 40, 90) == base
    assert key([*tokens[:95], 9, 9, 9], 40, 90) == base
    assert key(tokens, 40, 90, end=40) == key([*tokens[:60], *tokens[:40]], 40, 90, end=40)
    others = [
        key(tokens, 40, 90, layout="y"),
        key(tokens, 41, 90),
        key(tokens, 90),
        key([*tokens[:89], 7, *tokens[90:]], 40, 90),
        key([7, *tokens[1:]], 40, 90),
    ]
    assert len({base, *others}) == 6


def test_last_shared_is_the_last_at_most_at_the_end_given() -> None:
    boundaries = cut(200, part(100, 190))
    found = [last_shared(boundaries, end) for end in (99, 100, 189, 190, 199, 500)]
    assert [c and c.end for c in found] == [None, 100, 100, 190, 190, 190]


def test_at_first_sight_the_instructions_and_the_last_message_are_kept() -> None:
    places = part(100, 150, 260, instructions=50)
    boundaries = cut(262, places)
    assert kept(boundaries, places) == {
        50: Retention(for_others=True),
        260: Retention(for_others=False),
    }
    # too close behind another boundary: that one stands for it
    places = part(100, 150, 170, instructions=50)
    assert kept(cut(172, places), places) == {
        50: Retention(for_others=True),
        150: Retention(for_others=False),
    }


def test_guidance_does_not_take_the_place_of_what_comes_before_it() -> None:
    places = part(150, 190, guidance=150, instructions=50)
    boundaries = cut(192, places)
    assert kept(boundaries, places) == {
        50: Retention(for_others=True),
        150: Retention(for_others=False),
        190: Retention(for_others=False, yields_to=boundaries[1].digest),
    }


def test_of_the_beginning_of_an_answer_the_last_on_the_grid_is_kept() -> None:
    places = part(150, instructions=50)
    boundaries = cut(400, places, step=64)
    assert [c.end for c in boundaries] == [50, 114, 150, 214, 278, 342, 399]
    assert list(kept(boundaries, places)) == [50, 150, 342]


def test_what_an_earlier_prompt_came_by_is_kept_for_others() -> None:
    places = part(40, 300, instructions=40)
    earlier, boundaries = (cut(length, places, step=64) for length in (240, 310))
    assert [c.end for c in boundaries] == [40, 104, 168, 232, 296, 309]
    assert kept(boundaries, places, earlier) == {
        40: Retention(for_others=True),
        232: Retention(for_others=True),
        296: Retention(for_others=False),
    }


def test_a_whole_prompt_that_comes_again_is_kept_unless_it_ends_close_behind_a_boundary() -> None:
    places = part(100, instructions=100)
    far, near = cut(150, places), cut(130, places)
    assert kept(far, places, far) == {
        100: Retention(for_others=True),
        149: Retention(for_others=False),
    }
    assert kept(near, places, near) == {100: Retention(for_others=True)}


def test_nothing_is_kept_of_a_prompt_without_a_boundary() -> None:
    assert states_to_keep((), part(), ()) == {}
    assert kept(cut(20, part()), part()) == {}


@given(st.integers(1, 300), PLACES, STEPS, st.randoms())
def test_what_is_kept_is_of_the_prompt_and_not_much(
    length: int, places: list[int], step: int, chance: random.Random
) -> None:
    parts = part(*places, instructions=chance.randrange(300), guidance=chance.randrange(300))
    boundaries = cut(length, parts, step)
    seen = chance.sample(boundaries, chance.randint(0, len(boundaries)))
    found = states_to_keep(boundaries, parts, {c.digest for c in seen})
    assert found.keys() <= {c.digest for c in boundaries}
    assert len(found) <= 4
