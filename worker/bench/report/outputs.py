"""The files that a report is written to, and the earlier report it is compared with."""

from itertools import combinations
from pathlib import Path

import msgspec

from mh_batch.jobs.errors import InputError
from mh_batch.worker.output.charts.png import require_matplotlib
from mh_batch.worker.output.files import write_output

from . import plot
from .note import note
from .report import Report, read_report, write_report


class Outputs(msgspec.Struct, frozen=True):
    """The files to write, and the file to compare with; `None` for none."""

    json: Path | None = None
    plot: Path | None = None
    note: Path | None = None
    compare: Path | None = None

    def check(self) -> Report | None:
        """Return the earlier report, if any; raises `InputError` for a file that cannot be used."""
        if self.plot is not None:
            require_matplotlib()
        named = {name: getattr(self, name) for name in self.__struct_fields__}
        paths = {name: path for name, path in named.items() if path is not None}
        for (one, path), (other, another) in combinations(paths.items(), 2):
            if path.resolve() == another.resolve():
                raise InputError(f"--{other} {another}: is also the file of --{one}")
        for name, path in paths.items():
            if name != "compare":
                _check_file(name, path)
        return read_report(self.compare) if self.compare is not None else None

    def write(self, report: Report) -> None:
        """Write all requested files."""
        self.write_figures(report)
        if self.note is not None:
            write_output(self.note, note(report).encode())
        if self.plot is not None:
            write_output(self.plot, plot.draw(report))

    def write_figures(self, report: Report) -> None:
        """Write the JSON file only, also after an interrupted run."""
        if self.json is not None:
            write_report(report, self.json)


def _check_file(option: str, path: Path) -> None:
    if str(path) == "-":
        raise InputError(f"--{option} -: name a file; the tables are what is printed")
    if path.is_dir():
        raise InputError(f"--{option} {path}: is a folder; name a file")
    if not path.resolve().parent.is_dir():
        raise InputError(f"--{option} {path}: no such folder")
