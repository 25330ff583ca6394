"""The plan of a night is a value: a seed gives it, and it leaves no phase and no victim out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soak.plan import PHASES, Strike, plan, victims

SEEDS = st.integers(0, 2**32)


def test_a_seed_gives_one_plan_wherever_it_is_made() -> None:
    assert plan(7, 2 * len(PHASES))["token"] == (Strike(56, "model"), Strike(58, "worker"))
    assert plan(7, 200) == plan(7, 200)
    assert plan(7, 200) != plan(8, 200)


@given(SEEDS, st.integers(0, 500))
def test_as_many_kills_are_planned_as_were_asked_for(seed: int, kills: int) -> None:
    assert sum(len(strikes) for strikes in plan(seed, kills).values()) == kills


@given(SEEDS, st.integers(3 * len(PHASES), 500))
def test_every_phase_has_kills_and_each_of_its_victims_is_among_them(seed: int, kills: int) -> None:
    made = plan(seed, kills)
    assert made.keys() == set(PHASES)
    for phase, strikes in made.items():
        assert {strike.victim for strike in strikes} == set(victims(phase))


@given(SEEDS)
def test_no_two_kills_fall_on_one_passing(seed: int) -> None:
    for strikes in plan(seed, 300).values():
        passings = [strike.passing for strike in strikes]
        assert passings == sorted(set(passings))
        assert not passings or passings[0] >= 1


@pytest.mark.parametrize("kills", [0, 1, 10, 199])
def test_phases_differ_by_one_kill_at_most(kills: int) -> None:
    counts = {len(strikes) for strikes in plan(1, kills).values()}
    assert max(counts) - min(counts) <= 1
