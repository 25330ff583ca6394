"""The goals of this project: bounds on ratios and shares, which hardly depend on the machine."""

import re
from typing import NamedTuple

from .report import Figure


class Goal(NamedTuple):
    """A bound on the figures of `scenario` whose whole case matches `case`.

    It bounds the ratio called `of`, or the value itself if that is empty. `least` and `most` are
    the bounds, `None` for no bound.
    """

    scenario: str
    case: str
    of: str = ""
    least: float | None = None
    most: float | None = None

    def applies_to(self, figure: Figure) -> bool:
        """Whether the goal is about this figure."""
        return figure.scenario == self.scenario and re.fullmatch(self.case, figure.case) is not None

    def missed(self, figure: Figure) -> bool:
        """Whether a figure that it applies to is out of bounds, or was not measured."""
        value = figure.ratios.get(self.of) if self.of else figure.value
        if value is None:
            return True
        value = round(value, 2)  # as printed
        below = self.least is not None and value < self.least
        return below or (self.most is not None and value > self.most)

    def __str__(self) -> str:
        bounds = [("at least", self.least), ("at most", self.most)]
        said = [f"{word} {bound:.2f}" for word, bound in bounds if bound is not None]
        return " ".join([*said, *([self.of] if self.of else [])])


MOSTLY_THE_MODEL = "greedy|temperature 1"

GOALS = (
    Goal("drain", r".*gap share of wall", most=1),
    *(
        Goal(scenario, MOSTLY_THE_MODEL, reference, least)
        for scenario in ("decode", "larger")
        for reference, least in (("of bare loop", 0.97), ("of mlx-lm", 1.0))
    ),
    Goal("position", r"window \d+, at 16x.*", "of 1x", least=0.95),
    Goal("memory", r"window \d+, growth.*", most=1),
    Goal("forms", r"(demo|larger), \d slots?", "of free", least=0.95),
    Goal("slots", "dense, 8 slots", "of sequential", least=4),
    Goal("slots", "(dense|experts), 8 slots", "of mlx-lm", least=0.92),
    Goal("slots", "demo, 8 slots", "of sequential", least=1),
    Goal("slots", r"demo, 8 slots, Python of a step.*", most=1),
    Goal("slots", r"drain of \d+ jobs, 8 slots", "of sequential", least=3),
    Goal("slots", r"drain of \d+ jobs, 8 slots", "of script", least=0.9),
    Goal("slots", r"drain of \d+ jobs, slots busy", least=85),
    Goal("penalties", r"mh-batch, penalty.*", "of none", least=0.9),
)


def held_to(figure: Figure) -> str:
    """Return the goals of a figure and which of them it misses; empty if it has none.

    A figure that could not be measured has all goals of its scenario.
    """
    goals = [
        goal
        for goal in GOALS
        if goal.applies_to(figure) or (figure.value is None and goal.scenario == figure.scenario)
    ]
    return ", ".join(f"{goal}{' (missed)' if goal.missed(figure) else ''}" for goal in goals)
