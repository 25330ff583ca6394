"""The report of `submit --check`, built line by line in memory that does not grow with the file."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import msgspec

from mh_batch.jobs.record import JobLine
from mh_batch.store.reports.estimate import ThroughputEstimate
from mh_batch.worker.text.format import format_count, format_duration

SHOWN_LINES = 20
SHOWN_KEYS = 8

USUAL_TRIAL = 3
"""How many lines a trial should have at least."""


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
        self.prompt_tokens = 0
        # how many answers may have so many tokens: no more entries than a context has tokens
        self._answers: Counter[int] = Counter()

    def add(self, line: LineEstimate) -> None:
        """Add a line."""
        self.prompt_tokens += line.prompt_tokens
        self._answers[line.max_tokens] += line.answers

    @property
    def answers(self) -> int:
        """How many answers the lines ask for."""
        return self._answers.total()

    @property
    def most_tokens(self) -> int:
        """How many tokens the answers have if each takes all of its line's `max_tokens`."""
        return sum(most * answers for most, answers in self._answers.items())

    @property
    def seconds(self) -> float | None:
        """How long the lines take if their answers are as long as those of the model so far.

        `None` if its throughput is not known.
        """
        if self.throughput is None:
            return None
        usual = self.throughput.completion_tokens
        return self._seconds(sum(min(usual, most) * n for most, n in self._answers.items()))

    @property
    def most_seconds(self) -> float | None:
        """How long they take if each answer takes all of its line's `max_tokens`."""
        return None if self.throughput is None else self._seconds(self.most_tokens)

    def _seconds(self, tokens: float) -> float:
        past = self.throughput
        assert past is not None, "asked only with a throughput"
        return (
            self.prompt_tokens / past.prefill_tokens_per_second
            + tokens * past.attempts_per_answer / past.tokens_per_second
        )


class DryRunReport:
    """What the lines of a file would cost; `estimate_of` returns the throughput of a model.

    `sample` are lines for a trial, spread over the file. `tried` is what is printed of one.
    """

    def __init__(
        self, source: str, estimate_of: Callable[[str], ThroughputEstimate | None]
    ) -> None:
        self._source = source
        self._estimate_of = estimate_of
        self._lengths: Counter[int] = Counter()
        self._models: dict[str, ModelEstimate] = {}
        self.left_out = 0
        self.ignored: Mapping[str, int] = {}
        self.sample: list[JobLine] = []
        self.tried: list[str] = []
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

    def use_trial(self, throughput: Mapping[str, ThroughputEstimate], tried: list[str]) -> None:
        """Estimate the time by what a trial has measured, for the models that it has tried."""
        self.tried = tried
        for model, estimate in self._models.items():
            estimate.throughput = throughput.get(model, estimate.throughput)

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
        if self.tried:
            yield f"{format_count(len(self.tried), 'line')} answered on trial, nothing was kept:"
            yield from self.tried
        for model, estimate in self._models.items():
            yield _time_line(model, estimate, tried=bool(self.tried))
            yield _worst_line(estimate)


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


def _time_line(model: str, estimate: ModelEstimate, *, tried: bool) -> str:
    """Return how long the lines of a model take, and how that was computed."""
    so_far, seconds = estimate.throughput, estimate.seconds
    if so_far is None or seconds is None:
        why = (
            "the trial had too few attempts of it"
            if tried
            else "this database has too few attempts of it yet"
        )
        cure = "" if tried else f"; `--trial {USUAL_TRIAL}` answers some lines to have one"
        return f"{model}: no estimate of the time, {why}{cure}"
    like = f"its last {format_count(so_far.attempts, 'attempt')} here"
    if tried:
        like = f"the {format_count(so_far.attempts, 'attempt')} of the trial"
    together = f" with {so_far.parallel} conversations at once" if so_far.parallel > 1 else ""
    return (
        f"{model}: about {format_duration(seconds)}, "
        f"if it goes like {like}: "
        f"{format_count(estimate.answers, 'answer')} of {so_far.completion_tokens:.0f} tokens, "
        f"{so_far.attempts_per_answer:.2f} attempts each, "
        f"at {so_far.tokens_per_second:.0f} tok/s{together}, and "
        f"{format_count(estimate.prompt_tokens, 'prompt token')} at "
        f"{so_far.prefill_tokens_per_second:.0f} tok/s"
    )


def _worst_line(estimate: ModelEstimate) -> str:
    """Return what the lines of a model take at most, and how that was computed."""
    tokens = format_count(estimate.most_tokens, "token")
    if estimate.most_seconds is None:
        return f"  at most {tokens}, if each answer takes all of its max_tokens"
    return (
        f"  at most {format_duration(estimate.most_seconds)} at that speed, "
        f"if each answer takes all of its max_tokens ({tokens} in all)"
    )
