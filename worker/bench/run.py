"""One bench run: check the request, measure scenario by scenario, write the report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import msgspec
from rich.console import Console

from mh_batch.engine.model.folder import DEMO
from mh_batch.jobs.did_you_mean import nearest
from mh_batch.jobs.errors import InputError, JobError
from mh_batch.worker.bench.report.outputs import Outputs
from mh_batch.worker.bench.report.report import Figure, ProfileLine, Report, Series, Setup, Usage
from mh_batch.worker.bench.scenarios.drain import artifacts, drain

from .bench import Bench, Found, check_model, model_folder
from .report import compare, table
from .rounds import not_measured
from .scenarios import forms, options, position, prefix, queue, slots, speed, submit
from .usage import Meter, probes
from .workload import FULL, QUICK, Sizes

SCENARIOS: dict[str, Callable[[Bench], Found]] = {
    # first, while the model is in no other process
    "drain": drain,
    "artifacts": artifacts,
    "submit": submit.submit,
    "queue": queue.queue,
    "decode": speed.decode,
    "larger": speed.larger,
    "prefill": speed.prefill,
    "position": position.position,
    "memory": position.memory,
    "loops": options.loops,
    "penalties": options.penalties,
    "prefix": prefix.prefix,
    "forms": forms.forms,
    "slots": slots.slots,
}
"""In the order in which they run."""

NO_MODEL = frozenset({"submit", "queue", "larger", "forms", "slots"})
"""They need no model or load their own; the loading counts as their usage."""

ELSEWHERE = frozenset({"drain", "artifacts"}) | NO_MODEL
"""They need no model loaded in this process beforehand."""

BESIDE_DEMO = frozenset({"larger", "forms", "slots"})
"""They do not measure the user's model: with one, they run only if they are named."""

PACKAGES = ("mh-batch", "mlx", "mlx-lm", "llguidance")


@dataclass
class Part:
    """The figures of one scenario so far, and its usage of the machine once it has ended."""

    name: str
    found: list[Figure | Series] = field(default_factory=list)
    usage: Usage | None = None


class BenchRequest(msgspec.Struct, frozen=True):
    """What to measure; all scenarios if `only` names none."""

    model: str
    rounds: int
    quick: bool = False
    only: tuple[str, ...] = ()
    profile: bool = False
    outputs: Outputs = Outputs()


def run(request: BenchRequest, say: Callable[[str], None], console: Console) -> Report:
    """Measure, print and write; raises `InputError` before the first measurement if possible.

    An interrupted run prints what it has measured, and writes it as JSON if that was requested.
    """
    names = chosen(request.only, request.model)
    former = request.outputs.check()
    if request.profile or not set(names) <= NO_MODEL:
        check_model(request.model)
    parts: list[Part] = []
    profile: tuple[ProfileLine, ...] = ()
    try:
        with model_folder(request.model) as model:
            bench = Bench(model, sizes(request), request.rounds)
            for name in names:
                parts.append(Part(name))
                measure(parts[-1], bench, say)
            if request.profile:
                profile = _profile(bench, say)
    except BaseException:
        # hours of measurements must not be lost
        if any(part.found for part in parts):
            report = report_of(request, parts, complete=False)
            request.outputs.write_figures(report)
            table.print_report(report, console)
        raise
    report = report_of(request, parts, profile)
    # before printing, which fails if the terminal is closed
    request.outputs.write(report)
    table.print_report(report, console)
    if former is not None:
        found = compare.changes(former, report)
        table.print_changes(found, compare.differences(former, report), console)
    return report


def chosen(only: Sequence[str], model: str = DEMO) -> list[str]:
    """Return the scenarios to run on `model`, in order; `only` may hold comma-separated lists.

    If it is empty, all for this model. Raises `InputError` for an unknown name.
    """
    requested = {name.strip() for names in only for name in names.split(",")}
    for name in sorted(requested):
        if name not in SCENARIOS:
            hint = nearest(name, SCENARIOS)
            cure = f"did you mean {hint}?" if hint else f"must be one of {', '.join(SCENARIOS)}"
            raise InputError(f"--only {name}: no such scenario; {cure}")
    if not requested:
        requested = SCENARIOS.keys() - (BESIDE_DEMO if model != DEMO else set())
    return [name for name in SCENARIOS if name in requested]


def sizes(request: BenchRequest) -> Sizes:
    """Return how much to do."""
    return QUICK if request.quick else FULL


def measure(part: Part, bench: Bench, say: Callable[[str], None]) -> None:
    """Run the scenario of `part`; its figures are printed and added to `part` as they come.

    What this model cannot run becomes `n/a`.
    """
    say(f"bench: {part.name}")
    if part.name not in ELSEWHERE:
        _ = bench.subject  # loaded before the meter runs
    with Meter(part.name, probes()) as meter:
        try:
            for item in SCENARIOS[part.name](bench):
                part.found.append(item)
                if isinstance(item, Figure):
                    say(f"  {table.line(item)}")
        except JobError as error:
            part.found.append(not_measured((part.name, "what remains"), "", str(error)))
    part.usage = meter.usage()


def _profile(bench: Bench, say: Callable[[str], None]) -> tuple[ProfileLine, ...]:
    from mh_batch.worker.bench.scenarios.profile import profile

    say("bench: profile")
    return profile(bench)


def report_of(
    request: BenchRequest,
    parts: Sequence[Part],
    profile: tuple[ProfileLine, ...] = (),
    *,
    complete: bool = True,
) -> Report:
    """Return the figures of all scenarios as one report."""
    found = [item for part in parts for item in part.found]
    return Report(
        setup=_setup(request, complete),
        figures=tuple(item for item in found if isinstance(item, Figure)),
        series=tuple(item for item in found if isinstance(item, Series)),
        usage=tuple(part.usage for part in parts if part.usage is not None),
        profile=profile,
    )


def _setup(request: BenchRequest, complete: bool) -> Setup:
    from mh_batch.engine.model.device import device

    return Setup(
        model=Path(request.model).name,
        device=device(),
        versions={package: version(package) for package in PACKAGES},
        quick=request.quick,
        rounds=request.rounds,
        sizes=sizes(request),
        complete=complete,
    )
