"""What is shown while a queue is drained: a picture of it as a value, and its lines."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec
from rich.cells import cell_len
from rich.text import Text

from mh_batch.jobs.record import AttemptKey
from mh_batch.jobs.status import FINISHED, NOT_WELL, OPEN
from mh_batch.store.reports.batches import BatchReport
from mh_batch.store.reports.progress import LastAttempt, Pace
from mh_batch.worker.text.format import (
    format_clock,
    format_count,
    format_duration,
    format_rescued,
    format_size,
    printable,
)

ENOUGH_JOBS = 3
"""How many jobs must be finished before a time is named."""

MOST_BARS = 6
_LABEL = 9


class Attempting(msgspec.Struct, frozen=True):
    """The attempt on the model; what is `None` is not known from where one looks."""

    custom_id: str
    key: AttemptKey
    tokens: int | None = None
    tokens_per_second: float | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """All that is shown.

    `batches` are those with something to tell, `waiting` counts the unfinished jobs of all.
    `attempting` and `last` are `None` before there is such an attempt. `remark` is a line for
    the reader, `None` for none.
    """

    batches: tuple[BatchReport, ...] = ()
    waiting: int = 0
    attempting: Attempting | None = None
    last: LastAttempt | None = None
    pace: Pace = Pace(0, 0.0, None)
    remark: str | None = None

    @property
    def finished(self) -> int:
        """How many jobs of the batches shown are finished."""
        return sum(batch.count(FINISHED) for batch in self.batches)

    @property
    def unsuccessful(self) -> int:
        """How many of them did not end well; those that somebody cancelled are none of these."""
        return sum(batch.count(NOT_WELL) for batch in self.batches)

    @property
    def rescued(self) -> int:
        """How many jobs of the batches shown are done with rescued answers."""
        return sum(batch.rescued for batch in self.batches)

    @property
    def retries(self) -> int:
        """How many attempts of the batches shown were not the first."""
        return sum(batch.retries for batch in self.batches)


def seconds_left(picture: Snapshot) -> float | None:
    """Return how long the unfinished jobs take at the pace of the latest ones.

    `None` until `ENOUGH_JOBS` are finished, and when nothing waits.
    """
    pace = picture.pace
    if pace.jobs < ENOUGH_JOBS or not picture.waiting:
        return None
    return picture.waiting * pace.seconds / pace.jobs


def lines(picture: Snapshot, width: int, height: int, now: datetime) -> list[Text]:
    """Return the picture as at most `height - 1` lines of at most `width` cells.

    Where the terminal is low, what matters least goes first. `now` is local time.
    """
    room = max(1, height - 1)
    facts = list(_facts(picture, now))
    bars = min(len(picture.batches), MOST_BARS, max(1, room - len(facts)))
    by_rank = sorted(range(len(facts)), key=lambda index: facts[index][0])
    kept = set(by_rank[: room - bars])
    longest = max((cell_len(printable(b.name)) for b in picture.batches[:bars]), default=0)
    label = min(max(longest, _LABEL - 1), max(_LABEL - 1, width // 4))
    shown = [_bar(batch, label, width) for batch in picture.batches[:bars]]
    hidden = len(picture.batches) - bars
    if hidden and bars + len(kept) < room:
        shown.append(Text(f"and {format_count(hidden, 'more batch', 'more batches')}", style="dim"))
    shown += [text for index, (_, text) in enumerate(facts) if index in kept]
    for line in shown:
        line.no_wrap = True
        line.truncate(max(1, width), overflow="ellipsis")
    return shown


def summary_line(picture: Snapshot, now: datetime) -> str:
    """Return the picture in one line of plain text."""
    parts = [f"{picture.finished}/{picture.finished + picture.waiting} jobs"]
    if picture.unsuccessful:
        parts.append(f"{picture.unsuccessful} failed or incomplete")
    if picture.rescued:
        parts.append(format_rescued(picture.rescued))
    if picture.pace.tokens_per_second is not None:
        parts.append(f"{picture.pace.tokens_per_second:.0f} tok/s")
    if (left := seconds_left(picture)) is not None:
        parts.append(f"about {format_duration(left)} left, done at {_end(left, now)}")
    if picture.attempting is not None:
        parts.append(_attempt(picture.attempting))
    return ", ".join(parts)


def _facts(picture: Snapshot, now: datetime) -> Iterator[tuple[int, Text]]:
    """Yield the lines below the bars in order, each with its rank: 0 matters most."""
    if picture.attempting is not None:
        yield 1, _fact("now", _attempt(picture.attempting))
    if speed := "  ".join(_speeds(picture)):
        yield 3, _fact("speed", speed)
    if picture.last is not None:
        last = picture.last
        yield (
            5,
            _fact(
                "memory",
                f"{format_size(last.active_memory_bytes)} in use, "
                f"{format_size(last.peak_memory_bytes)} at the peak, "
                f"{format_size(last.process_memory_bytes)} in the process",
            ),
        )
    if picture.finished or picture.retries:
        yield 4, _so_far(picture)
    if (left := seconds_left(picture)) is not None:
        pace = f"pace of the last {format_count(picture.pace.jobs, 'job')}"
        yield 2, _fact("left", f"about {format_duration(left)}, done at {_end(left, now)} ({pace})")
    elif picture.waiting and picture.attempting is not None:
        yield 2, _fact("left", f"known once {ENOUGH_JOBS} jobs are finished")
    if picture.remark is not None:
        yield 0, Text(picture.remark, style="yellow")


def _fact(label: str, value: str) -> Text:
    return Text.assemble((f"{label:{_LABEL}}", "dim"), value)


def _attempt(attempting: Attempting) -> str:
    key = attempting.key
    again = f", attempt {key.attempt}" if key.attempt > 1 else ""
    choice = f"choice {key.choice + 1}, " if key.choice else ""
    step = f".{key.step}" if key.step else ""
    tokens = "" if attempting.tokens is None else f", {format_count(attempting.tokens, 'token')}"
    return f"{printable(attempting.custom_id)}, {choice}turn {key.turn}{step}{again}{tokens}"


def _speeds(picture: Snapshot) -> Iterator[str]:
    speed = picture.attempting.tokens_per_second if picture.attempting else None
    if speed is None and picture.last is not None:
        speed = picture.last.tokens_per_second
    parts = []
    if speed is not None:
        parts.append(f"{speed:.1f} tok/s now")
    if picture.pace.tokens_per_second is not None:
        parts.append(f"{picture.pace.tokens_per_second:.1f} on average")
    if parts:
        yield ", ".join(parts)
    if picture.last is not None:
        window = picture.last.max_kv_size
        yield f"KV {picture.last.kv_len:,}" + (f" of {window:,}" if window else "")


def _so_far(picture: Snapshot) -> Text:
    bad = picture.unsuccessful
    text = _fact("so far", f"{picture.finished:,} finished, ")
    text.append(format_count(picture.retries, "retry", "retries"))
    text.append(", ")
    text.append(f"{bad:,} failed or incomplete", style="red" if bad else "")
    if picture.rescued:
        text.append(", ")
        text.append(format_rescued(picture.rescued), style="yellow")
    return text


def _end(seconds: float, now: datetime) -> str:
    return format_clock(now + timedelta(seconds=seconds), now)


def _bar(batch: BatchReport, label: int, width: int) -> Text:
    """Return a batch's name in `label` cells, a bar of its finished jobs, and their number."""
    finished = batch.total - batch.count(OPEN)
    bad = batch.count(NOT_WELL)
    share = finished / batch.total if batch.total else 1.0
    # a last job does not show as all of them
    percent = f"{int(100 * share):3d}%"
    tail = f" {finished:,}/{batch.total:,} {percent}"
    name = Text(printable(batch.name))
    name.truncate(label, overflow="ellipsis", pad=True)
    cells = max(0, min(60, width - name.cell_len - len(tail) - 1))
    full = int(cells * share)
    return Text.assemble(
        name,
        " ",
        ("━" * full, "red" if bad else "green"),
        ("─" * (cells - full), "dim"),
        tail,
    )
