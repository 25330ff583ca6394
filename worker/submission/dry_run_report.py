"""The report of `submit --check`, built line by line in memory that does not grow with the file."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import msgspec

from mh_batch.store.reports.estimate import ThroughputEstimate
from mh_batch.worker.text.format import format_count, format_duration

SHOWN_LINES = 20
SHOWN_KEYS = 8


class LineEstimate(msgspec.Struct, frozen=True):
    """The cost of one line for a model.

    `prompt_tokens` counts its last prompt without the answers in between and without the
    `dropped_turns` that do not fit the context. Each of its `answers` may have `max_tokens` of the
    `asked_tokens` that the settings ask for.
    """

    prompt_tokens: int
    max_tokens: int
    asked_tokens: int
    dropped_turns: int
    answers: int


class ModelEstimate:
    """The cost of all lines of one model; `throughput` is `None` if the database has too little."""

    def __init__(self, throughput: ThroughputEstimate | None) -> None:
        self.throughput = throughput
        self.answers = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0.0

    def add(self, line: LineEstimate) -> None:
        """Add a line; its answers are assumed to be as long as the model's answers so far."""
        self.answers += line.answers
        self.prompt_tokens += line.prompt_tokens
        if self.throughput is not None:
            usual = min(self.throughput.completion_tokens, line.max_tokens)
            self.completion_tokens += usual * line.answers * self.throughput.attempts_per_answer

    @property
    def seconds(self) -> float | None:
        """How long the lines take at this throughput; `None` if it is not known."""
        if self.throughput is None:
            return None
        return (
            self.prompt_tokens / self.throughput.prefill_tokens_per_second
            + self.completion_tokens / self.throughput.tokens_per_second
        )


class DryRunReport:
    """What the lines of a file would cost; `estimate_of` returns the throughput of a model."""

    def __init__(
        self, source: str, estimate_of: Callable[[str], ThroughputEstimate | None]
    ) -> None:
        self._source = source
        self._estimate_of = estimate_of
        self._lengths: Counter[int] = Counter()
        self._models: dict[str, ModelEstimate] = {}
        self.left_out = 0
        self.ignored: Mapping[str, int] = {}
        self._refused = LineList()
        self._dropping = LineList()
        self._short = LineList()

    @property
    def all_fit(self) -> bool:
        """Whether every line can be done."""
        return not self._refused.total

    def take(self, number: int, model: str, line: LineEstimate) -> None:
        """Add a line that can be done."""
        self._lengths[line.prompt_tokens] += 1
        if model not in self._models:
            self._models[model] = ModelEstimate(self._estimate_of(model))
        self._models[model].add(line)
        place = f"{self._source}:{number}"
        if line.dropped_turns:
            self._dropping.add(f"{place}: {format_count(line.dropped_turns, 'turn')} at least")
        if line.max_tokens < line.asked_tokens:
            self._short.add(f"{place}: {line.max_tokens:,} of {line.asked_tokens:,} tokens")

    def refuse(self, number: int, reason: str) -> None:
        """Add a line that cannot be done."""
        self._refused.add(f"{self._source}:{number}: {reason}")

    def lines(self) -> Iterator[str]:
        """Yield the lines to print."""
        total = self._lengths.total() + self._refused.total
        yield f"{self._source}: {format_count(total, 'line')} checked, nothing was queued"
        if self.left_out:
            yield f"{format_count(self.left_out, 'bad line')} would be left out"
        if self.ignored:
            yield ignored_note(self.ignored)
        if self._lengths:
            low, middle, high, top = (_quantile(self._lengths, q) for q in (0.0, 0.5, 0.95, 1.0))
            yield (
                f"prompt tokens (answers to come not counted): min {low:,}, median {middle:,}, "
                f"p95 {high:,}, max {top:,}"
            )
        yield from self._refused.lines("cannot be done")
        yield from self._dropping.lines("would lose the oldest part of the history")
        yield from self._short.lines("would have less room for an answer than max_tokens")
        for model, estimate in self._models.items():
            yield _time_line(model, estimate)


def ignored_note(ignored: Mapping[str, int]) -> str:
    """Return which unknown keys are left out, and of how many lines, the commonest first."""
    some = list(ignored.items())[:SHOWN_KEYS]
    told = ", ".join(f"{name} ({format_count(count, 'line')})" for name, count in some)
    more = f" and {len(ignored) - len(some)} more" if len(ignored) > len(some) else ""
    return f"unknown keys left out: {told}{more}"


class LineList:
    """The number of lines with something in common, and what to print about the first of them."""

    def __init__(self) -> None:
        self.total = 0
        self._first: list[str] = []

    def add(self, text: str) -> None:
        """Add a line."""
        self.total += 1
        if self.total <= SHOWN_LINES:
            self._first.append(text)

    def lines(self, what: str) -> Iterator[str]:
        """Yield `what` with the number of lines, and the first `SHOWN_LINES`."""
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


def _time_line(model: str, estimate: ModelEstimate) -> str:
    """Return how long the lines of a model take, and how that was computed."""
    so_far, seconds = estimate.throughput, estimate.seconds
    if so_far is None or seconds is None:
        return f"{model}: no estimate of the time, this database has too few attempts of it yet"
    together = f" with {so_far.parallel} conversations at once" if so_far.parallel > 1 else ""
    return (
        f"{model}: about {format_duration(seconds)}, "
        f"if it goes like its last {so_far.attempts} attempts here: "
        f"{format_count(estimate.answers, 'answer')} of {so_far.completion_tokens:.0f} tokens, "
        f"{so_far.attempts_per_answer:.2f} attempts each, "
        f"at {so_far.tokens_per_second:.0f} tok/s{together}, and "
        f"{format_count(estimate.prompt_tokens, 'prompt token')} at "
        f"{so_far.prefill_tokens_per_second:.0f} tok/s"
    )
