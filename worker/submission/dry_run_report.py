"""What `submit --check` found, gathered line by line in memory that does not grow with the file."""

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from mh_batch.store.reports.estimate import ThroughputEstimate
from mh_batch.worker.text.format import format_count, format_duration

SHOWN_LINES = 20


class LineEstimate(msgspec.Struct, frozen=True):
    """What one line is to a model.

    `prompt_tokens` is its last prompt without the answers to come, less `dropped_turns` that the
    context does not hold. Each of its `answers` may have `max_tokens`; `asked_tokens` were asked
    for.
    """

    prompt_tokens: int
    max_tokens: int
    asked_tokens: int
    dropped_turns: int
    answers: int


class Sum:
    """What all lines of one model are together."""

    def __init__(self, past: ThroughputEstimate | None) -> None:
        self.past = past
        self.answers = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0.0

    def take(self, weight: LineEstimate) -> None:
        """Add a line, each of its answers as long as such answers were."""
        self.answers += weight.answers
        self.prompt_tokens += weight.prompt_tokens
        if self.past is not None:
            usual = min(self.past.completion_tokens, weight.max_tokens)
            self.completion_tokens += usual * weight.answers * self.past.attempts_per_answer

    @property
    def seconds(self) -> float | None:
        """How long it takes if all goes as before; `None` if there is no before."""
        if self.past is None:
            return None
        return (
            self.prompt_tokens / self.past.prefill_tokens_per_second
            + self.completion_tokens / self.past.tokens_per_second
        )


class Report:
    """Takes the lines in order and tells of them as a whole."""

    def __init__(self, source: str, past_of: Callable[[str], ThroughputEstimate | None]) -> None:
        self._source = source
        self._past_of = past_of
        self._lengths: Counter[int] = Counter()
        self._sums: dict[str, Sum] = {}
        self.left_out = 0
        self._refused = Some()
        self._dropping = Some()
        self._short = Some()

    @property
    def all_fit(self) -> bool:
        """Whether every line can be done."""
        return not self._refused.total

    def take(self, number: int, model: str, weight: LineEstimate) -> None:
        """Take a line that can be done."""
        self._lengths[weight.prompt_tokens] += 1
        if model not in self._sums:
            self._sums[model] = Sum(self._past_of(model))
        self._sums[model].take(weight)
        place = f"{self._source}:{number}"
        if weight.dropped_turns:
            self._dropping.add(f"{place}: {format_count(weight.dropped_turns, 'turn')} at least")
        if weight.max_tokens < weight.asked_tokens:
            self._short.add(f"{place}: {weight.max_tokens:,} of {weight.asked_tokens:,} tokens")

    def refuse(self, number: int, reason: str) -> None:
        """Take a line that cannot be done."""
        self._refused.add(f"{self._source}:{number}: {reason}")

    def lines(self) -> Iterator[str]:
        """Yield what to print."""
        total = self._lengths.total() + self._refused.total
        yield f"{self._source}: {format_count(total, 'line')} checked, nothing was queued"
        if self.left_out:
            yield f"{format_count(self.left_out, 'bad line')} would be left out"
        if self._lengths:
            low, middle, high, top = (_quantile(self._lengths, q) for q in (0.0, 0.5, 0.95, 1.0))
            yield (
                f"prompt tokens (answers to come not counted): min {low:,}, median {middle:,}, "
                f"p95 {high:,}, max {top:,}"
            )
        yield from self._refused.lines("cannot be done")
        yield from self._dropping.lines("would lose the oldest part of the history")
        yield from self._short.lines("would have less room for an answer than max_tokens")
        for model, together in self._sums.items():
            yield _estimate(model, together)


class Some:
    """The first of many things to tell, and how many there are."""

    def __init__(self) -> None:
        self.total = 0
        self._first: list[str] = []

    def add(self, text: str) -> None:
        """Take one more."""
        self.total += 1
        if self.total <= SHOWN_LINES:
            self._first.append(text)

    def lines(self, what: str) -> Iterator[str]:
        """Yield how many lines there are of which this is true, and the first of them."""
        if self.total:
            yield f"{format_count(self.total, 'line')} {what}:"
            yield from (f"  {text}" for text in self._first)
        if self.total > SHOWN_LINES:
            yield f"  and {self.total - SHOWN_LINES:,} more"


def _quantile(counts: Counter[int], part: float) -> int:
    """Return the smallest value that at least `part` of all values do not exceed."""
    seen, enough = 0, part * counts.total()
    for value in sorted(counts):
        seen += counts[value]
        if seen >= enough:
            return value
    raise ValueError("no values")


def _estimate(model: str, together: Sum) -> str:
    past, seconds = together.past, together.seconds
    if past is None or seconds is None:
        return f"{model}: no estimate of the time, this database has too few attempts of it yet"
    return (
        f"{model}: about {format_duration(seconds)}, "
        f"if it goes like its last {past.attempts} attempts here: "
        f"{format_count(together.answers, 'answer')} of {past.completion_tokens:.0f} tokens, "
        f"{past.attempts_per_answer:.2f} attempts each, at {past.tokens_per_second:.0f} tok/s, and "
        f"{format_count(together.prompt_tokens, 'prompt token')} at "
        f"{past.prefill_tokens_per_second:.0f} tok/s"
    )
