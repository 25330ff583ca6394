"""The self-test of a loaded model, on the thread that owns it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from mh_batch.engine.slots.row_caches import UnusualAttention
from mh_batch.engine.slots.support import SlotSupport
from mh_batch.jobs.selftest import SelftestVerdict

from .checks import (
    CheckFailed,
    check_against_alone,
    check_draws,
    check_neighbours,
    check_reuse,
)
from .rows import Rows
from .samples import SHORT_LENGTHS, STEPS, Vocabulary, samples
from .speed import SIZES, Speed, measure, recommended

REUSE_LENGTH = 150
TIMED_LENGTH = 256


class Subject(NamedTuple):
    """What is tested; `context_tokens` is the model's limit, `None` if unknown."""

    model: Any
    support: SlotSupport
    vocabulary: Vocabulary
    context_tokens: int | None

    def longest(self, length: int) -> int:
        """Return the length of a prompt, less if the context is shorter."""
        most = self.context_tokens
        return length if most is None else min(length, most - STEPS)


class Tested(NamedTuple):
    """The verdict, the memory in bytes by the number of slots, and which checks there were."""

    verdict: SelftestVerdict
    memory: dict[int, int]
    checked: tuple[str, ...]


def selftest(
    subject: Subject, parallel: int, alive: Callable[[], None], *, thorough: bool
) -> Tested:
    """Check `parallel` slots; `alive` is called every step or chunk of a prompt.

    `thorough` adds long prompts, and the speed of several numbers of slots.
    """
    rows = Rows(subject.model, parallel, alive)
    chosen = samples(subject.vocabulary, subject.support, subject.context_tokens, thorough=thorough)
    names = ", ".join(sample.name for sample in chosen)
    reads = [rows.read(sample) for sample in chosen]
    short = reads[: len(SHORT_LENGTHS)]
    reuse = partial(check_reuse, rows, subject.vocabulary, subject.longest(REUSE_LENGTH))
    checks: tuple[tuple[str, Callable[[], None]], ...] = (
        (f"against one at a time: {names}", lambda: check_against_alone(rows, reads)),
        ("beside others, bit for bit: the same", lambda: check_neighbours(rows, reads)),
        ("tokens drawn beside others with the same seeds", lambda: check_draws(rows, short)),
        ("reused beginnings of prompts, bit for bit", reuse),
    )
    checked = []
    for name, check in checks:
        checked.append(name)
        try:
            check()
        except CheckFailed as failure:
            verdict = SelftestVerdict(passed=False, failed=str(failure), layer=failure.layer)
            return Tested(verdict, {}, tuple(checked))
        except UnusualAttention as error:
            return Tested(SelftestVerdict(passed=False, failed=str(error)), {}, tuple(checked))
    found = _speeds(subject, parallel, alive) if thorough else {}
    speeds = {count: speed.tokens_per_second for count, speed in found.items()}
    verdict = SelftestVerdict(
        passed=True, speeds=speeds, recommended=recommended(speeds) if speeds else None
    )
    memory = {count: speed.memory_bytes for count, speed in found.items()}
    return Tested(verdict, memory, tuple(checked))


def _speeds(subject: Subject, parallel: int, alive: Callable[[], None]) -> dict[int, Speed]:
    """Time `parallel`, which has passed, and the usual numbers that run on the same kernels."""
    most = subject.support.most
    usual = {count for count in SIZES if most is None or count <= most}
    sample = subject.vocabulary.sample(subject.longest(TIMED_LENGTH), "timed")
    return {n: measure(subject.model, sample, n, alive) for n in sorted(usual | {parallel})}
