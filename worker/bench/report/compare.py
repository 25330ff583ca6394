"""What changed between a former run and this one."""

from typing import NamedTuple

from mh_batch.worker.bench.workload import Sizes

from .report import Report, Usage


class FigureChange(NamedTuple):
    """One figure in the earlier run and in this one; `None` if a run does not have it."""

    scenario: str
    case: str
    unit: str
    before: float | None
    now: float | None

    @property
    def percent(self) -> float | None:
        """The change in percent, `None` if one is missing or the earlier one is zero."""
        if self.before is None or self.now is None or self.before == 0:
            return None
        return 100 * (self.now - self.before) / abs(self.before)


def changes(before: Report, now: Report) -> list[FigureChange]:
    """Return every figure and usage of both runs.

    Scenarios that only the earlier run measured are left out; a case that only one run has is
    kept, with `None` for the other.
    """
    then = {(f.scenario, f.case): f for f in before.figures}
    found = []
    for figure in now.figures:
        earlier = then.pop((figure.scenario, figure.case), None)
        found.append(
            FigureChange(
                figure.scenario,
                figure.case,
                figure.unit,
                earlier.value if earlier else None,
                figure.value,
            )
        )
    ran = {figure.scenario for figure in now.figures}
    found += [
        FigureChange(f.scenario, f.case, f.unit, f.value, None)
        for f in then.values()
        if f.scenario in ran
    ]
    return found + _usage_changes(before, now)


def _usage_changes(before: Report, now: Report) -> list[FigureChange]:
    then = {u.scenario: u for u in before.usage}
    found = []
    for usage in now.usage:
        earlier = then.get(usage.scenario)
        for case, unit, field in USAGE_FIELDS:
            was = getattr(earlier, field) if earlier else None
            found.append(FigureChange(usage.scenario, case, unit, was, getattr(usage, field)))
    return found


USAGE_FIELDS: tuple[tuple[str, str, str], ...] = (
    ("CPU", "%", "cpu_percent"),
    ("GPU", "%", "gpu_percent"),
    ("wired memory", "bytes", "wired_bytes"),
    ("wired memory, swing", "bytes", "wired_swing_bytes"),
)
"""What of a `Usage` is compared: its name, its unit, its field."""

assert {field for *_, field in USAGE_FIELDS} <= set(Usage.__struct_fields__)


def differences(before: Report, now: Report) -> list[str]:
    """Return how the set-ups of the two runs differ: their figures compare badly."""
    pairs = [
        ("model", before.setup.model, now.setup.model),
        ("device", before.setup.device, now.setup.device),
        ("quick", before.setup.quick, now.setup.quick),
        ("rounds", before.setup.rounds, now.setup.rounds),
        *(
            (f"size {name}", getattr(before.setup.sizes, name), getattr(now.setup.sizes, name))
            for name in Sizes.__struct_fields__
        ),
    ]
    found = [f"{name}: {was} then, {is_now} now" for name, was, is_now in pairs if was != is_now]
    if not before.setup.complete:
        found.append("the earlier run was interrupted")
    if not {f.scenario for f in before.figures} & {f.scenario for f in now.figures}:
        found.append("no scenario was measured in both")
    packages = sorted(before.setup.versions.keys() | now.setup.versions.keys())
    for package in packages:
        was = before.setup.versions.get(package)
        is_now = now.setup.versions.get(package)
        if was != is_now:
            found.append(f"{package}: {was} then, {is_now} now")
    return found
