"""One bench run: check the request, measure scenario by scenario, hand the report out."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
from rich.console import Console

from mh_batch.engine.folder import DEMO
from mh_batch.jobs.errors import InputError, JobError
from mh_batch.jobs.near import nearest
from mh_batch.worker.plotting import require_matplotlib

from . import compare, options, plot, position, prefix, queue, speed, submit, table
from .bench import Bench, Found, model_folder
from .drain import artifacts, drain
from .note import note
from .report import (
    Figure,
    ProfileLine,
    Report,
    Series,
    Setup,
    Usage,
    read_report,
    write_bytes,
    write_report,
)
from .rounds import not_measured
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
}
"""In the order in which they run."""

WITHOUT_MODEL = frozenset({"drain", "artifacts", "submit", "queue", "larger"})
"""They need no model in this process, or bring one."""

BESIDE_DEMO = frozenset({"larger"})
"""They measure no model of the user's: with one they run only if they are named."""

PACKAGES = ("mh-batch", "mlx", "mlx-lm")


class Outputs(msgspec.Struct, frozen=True):
    """Where a report goes besides the terminal, and which former one to compare it with."""

    json: Path | None = None
    plot: Path | None = None
    note: Path | None = None
    compare: Path | None = None


class Request(msgspec.Struct, frozen=True):
    """What to measure; all scenarios if `only` names none."""

    model: str
    rounds: int
    quick: bool = False
    only: tuple[str, ...] = ()
    profile: bool = False
    outputs: Outputs = Outputs()


def run(request: Request, say: Callable[[str], None], console: Console) -> Report:
    """Measure, print and write; raises `InputError` before the first measurement if it can."""
    names = chosen(request.only, request.model)
    former = _check(request.outputs)
    with model_folder(request.model) as model:
        report = measure(request, Bench(model, sizes(request), request.rounds), names, say)
    table.print_report(report, console)
    if former is not None:
        found = compare.changes(former, report)
        table.print_changes(found, compare.differences(former, report), console)
    _write(report, request.outputs)
    return report


def chosen(only: Sequence[str], model: str = DEMO) -> list[str]:
    """Return the scenarios to run on `model`, in their order; `only` may hold lists with commas.

    If it is empty, all that are about this model. Raises `InputError` for an unknown name.
    """
    wanted = {name.strip() for names in only for name in names.split(",")}
    for name in sorted(wanted):
        if name not in SCENARIOS:
            hint = nearest(name, SCENARIOS)
            cure = f"did you mean {hint}?" if hint else f"there are: {', '.join(SCENARIOS)}"
            raise InputError(f"--only {name}: no such scenario; {cure}")
    if not wanted:
        wanted = SCENARIOS.keys() - (BESIDE_DEMO if model != DEMO else set())
    return [name for name in SCENARIOS if name in wanted]


def sizes(request: Request) -> Sizes:
    """Return how much to do."""
    return QUICK if request.quick else FULL


def measure(
    request: Request, bench: Bench, names: Sequence[str], say: Callable[[str], None]
) -> Report:
    """Run scenarios one after the other and return what they found."""
    figures: list[Figure] = []
    series: list[Series] = []
    usage: list[Usage] = []
    for name in names:
        say(f"bench: {name}")
        if name not in WITHOUT_MODEL:
            _ = bench.subject  # loaded before the meter runs
        with Meter(name, probes()) as meter:
            found = _scenario(name, bench, say)
        figures += [item for item in found if isinstance(item, Figure)]
        series += [item for item in found if isinstance(item, Series)]
        usage.append(meter.usage())
    profile: tuple[ProfileLine, ...] = ()
    if request.profile:
        from .profile import profile as profile_decode

        say("bench: profile")
        profile = profile_decode(bench)
    return Report(
        setup=_setup(bench, request),
        figures=tuple(figures),
        series=tuple(series),
        usage=tuple(usage),
        profile=profile,
    )


def _scenario(name: str, bench: Bench, say: Callable[[str], None]) -> list[Figure | Series]:
    """Return what a scenario finds, told as it comes; what this model cannot run is `n/a`."""
    found: list[Figure | Series] = []
    try:
        for item in SCENARIOS[name](bench):
            found.append(item)
            if isinstance(item, Figure):
                say(f"  {table.line(item)}")
    except JobError as error:
        found.append(not_measured((name, "what remains"), "", str(error)))
    return found


def _setup(bench: Bench, request: Request) -> Setup:
    info = bench.subject.info
    return Setup(
        model=Path(request.model).name,
        device=info.device,
        versions={package: version(package) for package in PACKAGES},
        quick=request.quick,
        rounds=request.rounds,
    )


def _check(outputs: Outputs) -> Report | None:
    """Return the former report to compare with, if any; refuse now what would fail at the end."""
    if outputs.plot is not None:
        require_matplotlib()
    for path in (outputs.json, outputs.plot, outputs.note):
        if path is not None and not path.resolve().parent.is_dir():
            raise InputError(f"{path}: no such folder")
    return read_report(outputs.compare) if outputs.compare else None


def _write(report: Report, outputs: Outputs) -> None:
    if outputs.json is not None:
        write_report(report, outputs.json)
    if outputs.note is not None:
        write_bytes(outputs.note, note(report).encode())
    if outputs.plot is not None:
        write_bytes(outputs.plot, plot.draw(report))
