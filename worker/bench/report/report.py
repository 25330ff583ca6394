"""What a bench run found, as values: written to JSON, read back to compare with."""

from pathlib import Path

import msgspec

from mh_batch.jobs.errors import InputError
from mh_batch.worker.bench.workload import Sizes
from mh_batch.worker.output.files import write_output

FORMAT = 2


class Figure(msgspec.Struct, frozen=True):
    """One measured number, `None` where it was not measured; `n` counts what it is made of.

    It is a median unless its case says otherwise. `ratios` is this figure over that of a reference,
    by the reference's name: where variants took turns, the median of the ratios of the rounds.
    `note` says why there is no number, or what to know about it.
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
    """What the machine did during a scenario; `None` where this machine does not tell.

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
    """What was measured, on what and how much; only runs of the same setup compare well.

    One that was broken off is not `complete`.
    """

    model: str
    device: str
    versions: dict[str, str]
    quick: bool
    rounds: int
    sizes: Sizes
    complete: bool = True


class Report(msgspec.Struct, frozen=True):
    """Everything one run found."""

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
    """Read what `write_report` wrote; raises `InputError` naming the file and what is wrong."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a report of `mh-batch bench --json`: {error}") from None
    if report.format != FORMAT:
        raise InputError(f"{path}: format {report.format}; this version reads format {FORMAT}")
    return report
