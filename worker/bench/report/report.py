"""The report of a bench run as values, written as JSON and read back to compare."""

from pathlib import Path

import msgspec

from mh_batch.jobs.errors import InputError
from mh_batch.worker.bench.workload import Sizes
from mh_batch.worker.output.files import write_output

FORMAT = 2


class Figure(msgspec.Struct, frozen=True):
    """One measured number, `None` if it was not measured; `n` is the number of samples.

    It is a median unless its case says otherwise. `ratios` is this figure over that of a reference,
    by the reference's name: for variants that took turns, the median of the ratios of the rounds.
    `note` explains the number, or why there is none.
    """

    scenario: str
    case: str
    value: float | None
    unit: str
    ratios: dict[str, float] = {}
    n: int = 0
    note: str = ""


class Series(msgspec.Struct, frozen=True):
    """One curve of a plot; curves of one `scenario` and one `y_label` share a panel."""

    scenario: str
    case: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


class Usage(msgspec.Struct, frozen=True):
    """The usage of the machine during a scenario; `None` for what cannot be measured here.

    `cpu_percent` counts a core as 100, child processes included. `wired_bytes` is the median,
    `wired_swing_bytes` the highest less the lowest.
    """

    scenario: str
    seconds: float
    cpu_percent: float
    gpu_percent: float | None = None
    wired_bytes: int | None = None
    wired_swing_bytes: int | None = None


class ProfileLine(msgspec.Struct, frozen=True):
    """A function in the profile: its own seconds, and those with what it called."""

    function: str
    calls: int
    own_seconds: float
    total_seconds: float


class Setup(msgspec.Struct, frozen=True):
    """The set-up of a run; only runs of the same set-up compare well.

    An interrupted run is not `complete`.
    """

    model: str
    device: str
    versions: dict[str, str]
    quick: bool
    rounds: int
    sizes: Sizes
    complete: bool = True


class Report(msgspec.Struct, frozen=True):
    """All results of one run."""

    setup: Setup
    figures: tuple[Figure, ...] = ()
    series: tuple[Series, ...] = ()
    usage: tuple[Usage, ...] = ()
    profile: tuple[ProfileLine, ...] = ()
    format: int = FORMAT


def write_report(report: Report, path: Path) -> None:
    """Write the report as JSON; raises `EnvironmentFault` if the disk does not take it."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    write_output(path, text + b"\n")


def read_report(path: Path) -> Report:
    """Read a report that `write_report` wrote; raises `InputError` if the file is none."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a report of `mh-batch bench --json`: {error}") from None
    if report.format != FORMAT:
        raise InputError(f"{path}: format {report.format}; this version reads format {FORMAT}")
    return report
