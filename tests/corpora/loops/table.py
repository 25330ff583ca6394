"""How the detector does on the corpora, by kind: `python -m corpora.loops.table` in `tests`.

What it prints stands in the README beside it.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from statistics import median
from typing import NamedTuple

from mh_batch.engine.decoding.loop_detector import Loop, LoopDetector, LoopMode
from mh_batch.worker.controller.repetition import repetitive

from . import held_back_honest, held_back_loops, honest_data, honest_prose, loops, texts
from .corpus import Answer, Stuck, answers, kept_texts, stuck

HELD_BACK_SEED = 2_000_003
ON_TIME = 2000
"""Tokens from its beginning within which a near repetition is to be found."""


class Row(NamedTuple):
    """What became of the answers of one kind: how many, and how many were ended or refused."""

    kind: str
    count: int  # type: ignore[assignment]  # hides the method of a tuple
    longest: int
    cheap: int
    full: int
    refused: int


class Found(NamedTuple):
    """When the loops of one kind were found: tokens from the beginning of each that was."""

    kind: str
    count: int  # type: ignore[assignment]  # hides the method of a tuple
    cheap: list[int]
    full: list[int]


@cache
def corpus_answers() -> list[Answer]:
    """Return the honest answers that the detector may be set by."""
    return [*answers(honest_data.KINDS + honest_prose.KINDS, texts.OPENINGS), *kept_texts()]


@cache
def corpus_loops() -> list[Stuck]:
    """Return the loops that the detector may be set by."""
    kinds = loops.EXACT + loops.COUNTING + loops.SWAPPING + loops.OTHERS
    return list(stuck(kinds, texts.OPENINGS))


@cache
def held_back_answers() -> list[Answer]:
    """Return the honest answers that are held back."""
    return list(answers(held_back_honest.KINDS, held_back_loops.OPENINGS, HELD_BACK_SEED))


@cache
def held_back_stuck() -> list[Stuck]:
    """Return the loops that are held back."""
    kinds = held_back_loops.EXACT + held_back_loops.COUNTING + held_back_loops.SWAPPING
    return list(stuck(kinds, held_back_loops.OPENINGS, HELD_BACK_SEED))


def first_loop(mode: LoopMode, tokens: Iterable[int]) -> tuple[int, Loop] | None:
    """Return after how many tokens a detector finds a loop, and that; `None` if it finds none."""
    push = LoopDetector(mode).push
    found = ((count, push(token)) for count, token in enumerate(tokens, 1))
    return next(((count, loop) for count, loop in found if loop is not None), None)


def honest_rows(found: Iterable[Answer]) -> list[Row]:
    """Return what becomes of honest answers, by kind."""
    return [_row(kind, list(group)) for kind, group in groupby(found, lambda a: a.kind)]


def _row(kind: str, found: Sequence[Answer]) -> Row:
    ended = {
        mode: sum(first_loop(mode, answer.tokens) is not None for answer in found)
        for mode in (LoopMode.CHEAP, LoopMode.FULL)
    }
    refused = sum(repetitive(answer.text) for answer in found)
    longest = max(len(answer.tokens) for answer in found)
    return Row(
        _name(kind), len(found), longest, ended[LoopMode.CHEAP], ended[LoopMode.FULL], refused
    )


def loop_rows(found: Iterable[Stuck]) -> list[Found]:
    """Return when loops are found, by kind."""
    return [_found(kind, list(group)) for kind, group in groupby(found, lambda s: s.kind)]


def _found(kind: str, found: Sequence[Stuck]) -> Found:
    cheap, full = (
        [when[0] - s.start for s in found if (when := first_loop(mode, s.tokens)) is not None]
        for mode in (LoopMode.CHEAP, LoopMode.FULL)
    )
    return Found(_name(kind), len(found), cheap, full)


def honest_table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown, with their sum."""
    total = Row(
        "**all**",
        sum(row.count for row in rows),
        max(row.longest for row in rows),
        sum(row.cheap for row in rows),
        sum(row.full for row in rows),
        sum(row.refused for row in rows),
    )
    lines = [
        "| Honest answers | how many | longest | `cheap` ends | `full` ends | refused after |",
        "|---|---|---|---|---|---|",
        *("| " + " | ".join(map(str, row)) + " |" for row in (*rows, total)),
    ]
    return "\n".join(lines)


def loops_table(rows: Sequence[Found]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| Loops | how many | `cheap` finds | after | `full` finds | of them in 2,000 | after |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        on_time = sum(tokens <= ON_TIME for tokens in row.full)
        cells = (row.kind, row.count, len(row.cheap), _after(row.cheap))
        more = (len(row.full), on_time, _after(row.full))
        lines.append("| " + " | ".join(map(str, (*cells, *more))) + " |")
    return "\n".join(lines)


def _name(kind: str) -> str:
    return kind.replace("_", " ").replace(" percent ", "% ")


def _after(tokens: Sequence[int]) -> str:
    """Return the median of the tokens until a loop was found, and the most."""
    return f"{median(tokens):,.0f}, at most {max(tokens):,}" if tokens else ""


def report() -> str:
    """Return all four tables."""
    return "\n\n".join(
        (
            honest_table(honest_rows(corpus_answers())),
            loops_table(loop_rows(corpus_loops())),
            "## Held back",
            honest_table(honest_rows(held_back_answers())),
            loops_table(loop_rows(held_back_stuck())),
        )
    )


if __name__ == "__main__":
    print(report())
