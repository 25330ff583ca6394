"""The bad lines of a file: one message for all that have the same fault."""

import msgspec

from mh_batch.jobs.errors import BadLine, BadLines
from mh_batch.worker.text.format import format_count

from .tables.mapping import map_cure

MOST_KINDS = 1000
SHOWN_LINES = 1000
NAMED_NUMBERS = 3
MOST_KEYS = 12


class Fault(msgspec.Struct):
    """One kind of fault: how many lines have it, the first of them, and which keys were seen."""

    reason: str
    lines: int = 0
    numbers: list[int] = []
    keys: dict[str, None] = {}

    def add(self, line: BadLine) -> None:
        """Count a line."""
        self.lines += 1
        if len(self.numbers) < NAMED_NUMBERS:
            self.numbers.append(line.number)
        for key in line.keys:
            if len(self.keys) < MOST_KEYS:
                self.keys[key] = None

    def messages(self) -> list[tuple[int, str]]:
        """Return a message for each of a few lines, one for many, and the line that it names."""
        if self.lines <= NAMED_NUMBERS and not self.keys:
            return [(number, self.reason) for number in self.numbers]
        reason = self.reason
        if self.keys:
            keys = tuple(self.keys)
            reason += f"; the keys are {', '.join(keys)}: {map_cure(keys)}"
        if self.lines > 1:
            numbers = ", ".join(map(str, self.numbers))
            more = ", …" if self.lines > len(self.numbers) else ""
            reason += f" ({format_count(self.lines, 'line')}: {numbers}{more})"
        return [(self.numbers[0], reason)]


class Faults:
    """Collects bad lines in memory that does not grow with the file."""

    def __init__(self, source: str) -> None:
        self.total = 0
        self._source = source
        self._lines: list[BadLine] = []
        self._kinds: dict[str, Fault] = {}

    def add(self, line: BadLine) -> None:
        """Count a line."""
        self.total += 1
        if len(self._lines) < SHOWN_LINES:
            self._lines.append(line)
        kind = self._kinds.get(line.reason)
        if kind is None and len(self._kinds) < MOST_KINDS:
            kind = self._kinds[line.reason] = Fault(line.reason)
        if kind is not None:
            kind.add(line)

    def error(self) -> BadLines:
        """Return the error that names them, in the order of the file."""
        named = sorted(one for kind in self._kinds.values() for one in kind.messages())
        messages = [f"{self._source}:{number}: {text}" for number, text in named]
        counted = sum(kind.lines for kind in self._kinds.values())
        if self.total > counted:
            messages.append(f"{self._source}: and {self.total - counted} more bad lines")
        return BadLines(self._source, self._lines, self.total, messages)
