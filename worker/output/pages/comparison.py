"""Two batches as one HTML page: the same prompts, both answers beside each other."""

import msgspec

from mh_batch.jobs.status import Status
from mh_batch.store.reports.comparison import Comparison, Pair, Side
from mh_batch.worker.output.timings import duration
from mh_batch.worker.text.format import format_number, format_percent, format_seconds

from .passages import Exchange, Passage, exchanges, of_message
from .rendering import render
from .settings import settings_apart, settings_used

MOST_EXCHANGES = 6
"""How many turns of a pair are shown."""


class ShownPair(msgspec.Struct, frozen=True):
    """A pair to read: the context, the turns, and how many more there are."""

    pair: Pair
    context: tuple[Passage, ...]
    exchanges: tuple[Exchange, ...]
    left_out: int


def comparison_page(found: Comparison, written_at: str) -> str:
    """Return the page of two batches as HTML."""
    shown = [shown_pair(pair) for pair in found.pairs]
    apart = [s for s in shown if s.pair.a.job.status != s.pair.b.job.status]
    alike = [s for s in shown if s not in apart and s.pair.same_answer]
    return render(
        "comparison.html.jinja",
        found=found,
        written_at=written_at,
        figures=figures(found),
        same_answers=sum(row.same_answers for row in found.outcomes),
        other_prompts=sum(row.other_prompts for row in found.outcomes),
        apart=settings_apart(*(settings_used(s.settings, s.models) for s in (found.a, found.b))),
        groups=(
            ("Other outcomes", apart),
            ("Other answers", [s for s in shown if s not in apart and s not in alike]),
            ("The same answers", alike),
        ),
    )


def figures(found: Comparison) -> list[tuple[str, str, str]]:
    """Return the figures of both batches: a label and two texts; none where both have nothing."""
    a, b = (_figures(side) for side in (found.a, found.b))
    return [(name, a[name], b[name]) for name in a if (a[name], b[name]) != ("-", "-")]


def shown_pair(pair: Pair) -> ShownPair:
    """Return what is shown of a pair."""
    turns = exchanges(pair.a.job, pair.b.job)
    context = [passage for m in pair.a.job.request.messages for passage in of_message(m)]
    left_out = max(0, len(turns) - MOST_EXCHANGES)
    return ShownPair(pair, tuple(context), turns[:MOST_EXCHANGES], left_out)


def _figures(side: Side) -> dict[str, str]:
    report, cost = side.report, side.paired
    return {
        "model (weights)": ", ".join(f"{m.model} ({m.fingerprint[:8]})" for m in side.models)
        or "-",
        "jobs": f"{report.total:,}",
        **{str(status): _share(report.counts[status], report.total) for status in Status},
        "rescued": _share(report.rescued, report.total),
        "generated for the pairs": f"{cost.tokens:,} tokens in {cost.attempts:,} attempts",
        "model time for the pairs": format_seconds(cost.model_seconds),
        "decode speed for the pairs": f"{format_number(cost.tokens_per_second)} tokens/s",
        "duration of the batch": duration(side.timings),
    }


def _share(count: int, total: int) -> str:
    return f"{count:,} ({format_percent(count, total)})" if count else "-"
