"""Whatever is killed whenever: the night ends as if nothing had been. `make soak` runs it."""

from pathlib import Path

import pytest

from soak.content import differences
from soak.night import (
    NIGHT_SECONDS,
    USUAL_KILLS,
    WANTED_KILLS,
    Kills,
    Night,
    Server,
    run_night,
)
from soak.plan import PHASES
from soak.report import report
from soak.sabotage import SABOTAGES

# a night, and the one it is held against; each ends itself after so long
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * NIGHT_SECONDS + 300)]

SEED = 20
PLANNED = WANTED_KILLS * 117 // 100
"""Some come to nothing: whom they would hit has ended, or the night has."""


def test_a_night_of_many_kills_ends_as_the_night_that_nothing_disturbed(
    server: Server, sources: list[Path], reference: Night, parallel: int, tmp_path: Path
) -> None:
    kills = Kills(SEED, PLANNED)
    night = run_night(server, tmp_path / "night", sources, kills, parallel)
    found = differences(reference.content, night.content)
    print("\n" + report(kills, night, reference, found))
    assert reference.faults == ()
    assert night.faults == ()
    assert found == []
    assert len(night.struck) >= WANTED_KILLS
    if WANTED_KILLS >= USUAL_KILLS:
        assert {phase for phase, _ in night.struck} == set(PHASES)
    # every retry, rescue and second part that there is was among what was compared
    assert len(night.content["attempts"]) > len(night.content["turns"])


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_broken_promise_shows_as_a_difference_or_a_fault(
    sabotage: str,
    server: Server,
    short_sources: list[Path],
    short_reference: Night,
    tmp_path: Path,
) -> None:
    kills = Kills(SEED, 4 * len(PHASES), sabotage)
    night = run_night(server, tmp_path / "night", short_sources, kills)
    found = [*night.faults, *differences(short_reference.content, night.content)]
    print(f"\n{sabotage}: {len(found)} differences and faults in {len(night.struck)} kills")
    for line in found[:3]:
        print(f"  {line[:200]}")
    assert found
