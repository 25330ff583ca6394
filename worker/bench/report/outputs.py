"""Where a report goes besides the terminal, and which former one it is compared with."""

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
    """The files to write, and the one to compare with; `None` for none."""

    json: Path | None = None
    plot: Path | None = None
    note: Path | None = None
    compare: Path | None = None

    def check(self) -> Report | None:
        """Return the former report, if any; raises `InputError` now for what would fail later."""
        if self.plot is not None:
            require_matplotlib()
        named = {name: getattr(self, name) for name in self.__struct_fields__}
        paths = {name: path for name, path in named.items() if path is not None}
        for (one, path), (other, another) in combinations(paths.items(), 2):
            if path.resolve() == another.resolve():
                raise InputError(f"--{other} {another}: is the file of --{one} already")
        for name, path in paths.items():
            if name != "compare":
                _check_file(name, path)
        return read_report(self.compare) if self.compare is not None else None

    def write(self, report: Report) -> None:
        """Write all files that were asked for."""
        self.write_figures(report)
        if self.note is not None:
            write_output(self.note, note(report).encode())
        if self.plot is not None:
            write_output(self.plot, plot.draw(report))

    def write_figures(self, report: Report) -> None:
        """Write the JSON alone: what a run that did not come to its end is good for."""
        if self.json is not None:
            write_report(report, self.json)


def _check_file(option: str, path: Path) -> None:
    if str(path) == "-":
        raise InputError(f"--{option} -: name a file; the tables are what is printed")
    if path.is_dir():
        raise InputError(f"--{option} {path}: is a folder; name a file")
    if not path.resolve().parent.is_dir():
        raise InputError(f"--{option} {path}: no such folder")
