"""A snapshot of the queue as lines for a terminal."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from rich.cells import cell_len
from rich.text import Text

from mh_batch.jobs.status import NOT_WELL, OPEN
from mh_batch.store.reports.batches import BatchReport
from mh_batch.store.reports.progress import ENOUGH_JOBS
from mh_batch.worker.text.console import shortened
from mh_batch.worker.text.format import (
    format_clock,
    format_count,
    format_duration,
    format_rescued,
    format_size,
    printable,
)

from .snapshot import Attempting, Snapshot, seconds_left

MAX_BARS = 6
MAX_ATTEMPTS = 10
_LABEL = 9
_PLACE = len(", turn 1, reading prompt")


def lines(snapshot: Snapshot, width: int, height: int, now: datetime) -> list[Text]:
    """Return the snapshot as at most `height - 1` lines of at most `width` cells.

    The least important lines are left out first. `now` is local time.
    """
    room = max(1, height - 1)
    facts = list(_facts(snapshot, now))
    needed = len(facts) + bool(snapshot.attempting)
    bars = min(len(snapshot.batches), MAX_BARS, max(1, room - needed))
    spare = room - bars - len(facts)
    # one conversation is worth more than a fact, all others are worth less
    facts = [(1, text) for text in _attempts(snapshot, width, max(1, spare))] + facts
    by_rank = sorted(range(len(facts)), key=lambda index: facts[index][0])
    kept = set(by_rank[: room - bars])
    longest = max((cell_len(printable(b.name)) for b in snapshot.batches[:bars]), default=0)
    label = min(max(longest, _LABEL - 1), max(_LABEL - 1, width // 4))
    shown = [_bar(batch, label, width) for batch in snapshot.batches[:bars]]
    hidden = len(snapshot.batches) - bars
    if hidden and bars + len(kept) < room:
        shown.append(Text(f"and {format_count(hidden, 'more batch', 'more batches')}", style="dim"))
    shown += [text for index, (_, text) in enumerate(facts) if index in kept]
    for line in shown:
        line.no_wrap = True
        line.truncate(max(1, width), overflow="ellipsis")
    return shown


def summary_line(snapshot: Snapshot, now: datetime) -> str:
    """Return the snapshot as one line of plain text."""
    parts = [f"{snapshot.finished}/{snapshot.finished + snapshot.waiting} jobs"]
    if snapshot.unsuccessful:
        parts.append(f"{snapshot.unsuccessful} failed or incomplete")
    if snapshot.rescued:
        parts.append(format_rescued(snapshot.rescued))
    if snapshot.tokens_per_second is not None:
        parts.append(f"{snapshot.tokens_per_second:.0f} tok/s now")
    if (left := seconds_left(snapshot)) is not None:
        parts.append(f"about {format_duration(left)} left, done at {_end(left, now)}")
    if len(snapshot.attempting) > 1:
        parts.append(f"{len(snapshot.attempting)} conversations at once")
        parts += _ahead(snapshot)
    elif snapshot.attempting:
        parts.append(_attempt(snapshot.attempting[0]))
    return ", ".join(parts)


def _facts(snapshot: Snapshot, now: datetime) -> Iterator[tuple[int, Text]]:
    """Yield the lines below the attempts in order, each with its rank: 0 is the most important."""
    if speed := "  ".join(_speeds(snapshot)):
        yield 3, _fact("speed", speed)
    if snapshot.last is not None:
        last = snapshot.last
        yield (
            5,
            _fact(
                "memory",
                f"{format_size(last.active_memory_bytes)} in use, "
                f"{format_size(last.peak_memory_bytes)} at the peak, "
                f"{format_size(last.process_memory_bytes)} in the process",
            ),
        )
    if snapshot.finished or snapshot.retries:
        yield 4, _so_far(snapshot)
    if (left := seconds_left(snapshot)) is not None:
        pace = f"pace of the last {format_count(snapshot.pace.jobs, 'job')}"
        yield 2, _fact("left", f"about {format_duration(left)}, done at {_end(left, now)} ({pace})")
    elif snapshot.waiting > max(0, ENOUGH_JOBS - snapshot.pace.jobs) and snapshot.attempting:
        # with fewer jobs it never is
        yield 2, _fact("left", f"known once this run has finished {ENOUGH_JOBS} jobs")
    if snapshot.remark is not None:
        yield 0, Text(snapshot.remark, style="yellow")


def _attempts(snapshot: Snapshot, width: int, most: int) -> Iterator[Text]:
    """Yield a line for each attempt in a slot; the last of at most `most` lines counts the rest."""
    found, ahead = snapshot.attempting, _ahead(snapshot)
    shown = len(found) if len(found) + len(ahead) <= most else max(1, most - 1)
    shown = min(shown, MAX_ATTEMPTS)
    for index, attempting in enumerate(found[:shown]):
        yield _fact("" if index else "now", _attempt(attempting, width - _LABEL))
    more = len(found) - shown
    rest = [*([format_count(more, "more conversation")] if more else []), *ahead]
    if rest and most > 1:
        yield _fact("", f"and {', '.join(rest)}")


def _ahead(snapshot: Snapshot) -> list[str]:
    """Return what to say of the prompts that are read ahead, if there are any."""
    return [f"{snapshot.ahead} read ahead"] if snapshot.ahead else []


def _fact(label: str, value: str) -> Text:
    return Text.assemble((f"{label:{_LABEL}}", "dim"), value)


def _attempt(attempting: Attempting, width: int | None = None) -> str:
    """Return what an attempt is; in `width` cells the middle of a long `custom_id` is left out."""
    key = attempting.key
    again = f", attempt {key.attempt}" if key.attempt > 1 else ""
    choice = f"choice {key.choice + 1}, " if key.choice else ""
    step = f".{key.step}" if key.step else ""
    place = f", {choice}turn {key.turn}{step}{again}{_tokens(attempting.tokens)}"
    custom_id = printable(attempting.custom_id)
    if width is not None:
        # as short with the first token as before it: the text stays where it is
        custom_id = shortened(custom_id, max(_LABEL, width - max(len(place), _PLACE)))
    return custom_id + place


def _tokens(count: int | None) -> str:
    if count is None:
        return ""
    return f", {format_count(count, 'token')}" if count else ", reading prompt"


def _speeds(snapshot: Snapshot) -> Iterator[str]:
    parts = []
    if snapshot.tokens_per_second is not None:
        parts.append(f"{snapshot.tokens_per_second:.1f} tok/s now")
    if snapshot.pace.tokens_per_second is not None:
        parts.append(f"{snapshot.pace.tokens_per_second:.1f} on average")
    if parts:
        yield ", ".join(parts)
    if snapshot.last is not None:
        window = snapshot.last.max_kv_size
        yield f"KV {snapshot.last.kv_len:,}" + (f" of {window:,}" if window else "")


def _so_far(snapshot: Snapshot) -> Text:
    bad = snapshot.unsuccessful
    text = _fact("so far", f"{snapshot.finished:,} finished, ")
    text.append(format_count(snapshot.retries, "retry", "retries"))
    text.append(", ")
    text.append(f"{bad:,} failed or incomplete", style="red" if bad else "")
    if snapshot.rescued:
        text.append(", ")
        text.append(format_rescued(snapshot.rescued), style="yellow")
    return text


def _end(seconds: float, now: datetime) -> str:
    return format_clock(now + timedelta(seconds=seconds), now)


def _bar(batch: BatchReport, label: int, width: int) -> Text:
    """Return a batch's name in `label` cells, a bar of its finished jobs, and their number."""
    finished = batch.total - batch.count(OPEN)
    bad = batch.count(NOT_WELL)
    share = finished / batch.total if batch.total else 1.0
    # rounded down: 100% only when all jobs are finished
    percent = f"{int(100 * share):3d}%"
    tail = f" {finished:,}/{batch.total:,} {percent}"
    name = Text(printable(batch.name))
    name.truncate(label, overflow="ellipsis", pad=True)
    cells = max(0, min(60, width - name.cell_len - len(tail) - 1))
    full = int(cells * share)
    return Text.assemble(
        name, " ", ("━" * full, "red" if bad else "green"), ("─" * (cells - full), "dim"), tail
    )
