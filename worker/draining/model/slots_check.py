"""Lets a model run in slots only where a self-test passed on this machine."""

from collections import Counter

from mh_batch.jobs.errors import EnvironmentFault, JobError, SlotsRefused
from mh_batch.jobs.generation import ModelInfo
from mh_batch.jobs.selftest import SelftestVerdict
from mh_batch.store import queue
from mh_batch.worker.draining.context import DrainContext
from mh_batch.worker.model_process.supervisor import LoadDied
from mh_batch.worker.slots_key import selftest_key
from mh_batch.worker.text.format import format_count

MOST_DEATHS = 3
"""So many deaths of the process in a test are its verdict: it has failed."""


class SlotsCheck:
    """Runs a self-test where the store has no verdict, and keeps what it found."""

    def __init__(self, context: DrainContext) -> None:
        self._context = context
        self._deaths: Counter[tuple[str, int]] = Counter()
        self._verdicts: dict[tuple[str, int], SelftestVerdict] = {}
        self._told: set[tuple[str, int]] = set()
        self._lifted: set[tuple[str, int]] = set()

    async def try_more(self, info: ModelInfo, parallel: int) -> None:
        """Find out whether a model runs in more slots than `info` says; say so if not.

        Raises `LoadDied` if the process dies of it.
        """
        most, reason = info.slots.most, info.slots.reason
        if most is None or parallel <= most:
            return
        if info.slots.unless_tested:
            try:
                verdict = await self._known(info, parallel)
            except SlotsRefused as fault:
                failed = str(fault)
            else:
                if verdict.passed or self._context.options.allow_variance:
                    self._lifted.add((info.fingerprint, parallel))
                    return
                failed = verdict.what_failed
            reason = f"{reason}, and the self-test with {parallel} failed: {failed}"
        many = format_count(most, "conversation")
        self._context.display.note(f"{info.name} runs {many} at once at most: {reason}")

    def usable(self, info: ModelInfo, parallel: int) -> int:
        """Return in how many slots a model runs where `parallel` are wanted."""
        most = info.slots.most
        if most is None or (info.fingerprint, parallel) in self._lifted:
            return parallel
        return min(parallel, most)

    async def require(self, parallel: int) -> None:
        """Return if the model in memory may run in so many slots.

        Raises `SlotsRefused` if the test fails or has failed, unless the options allow variance, or
        if the model cannot run so, and `LoadDied` if the process dies of it.
        """
        info = self._context.supervisor.info
        if parallel == 1 or info is None:
            return
        verdict = await self._known(info, parallel)
        if verdict.passed:
            return
        many = format_count(parallel, "conversation")
        what = f"{info.name} failed the self-test with {many} at once: {verdict.what_failed}"
        if not self._context.options.allow_variance:
            raise SlotsRefused(
                f"{what}; `mh-batch selftest --parallel {parallel}` tests again; work with "
                "--parallel 1, or with --allow-variance if answers may depend on what runs beside "
                "them"
            )
        if (info.fingerprint, parallel) not in self._told:
            self._told.add((info.fingerprint, parallel))
            await self._context.store.call(queue.allow_variance, self._context.run_id)
            self._context.display.note(f"{what}; going on all the same (--allow-variance)")

    async def _known(self, info: ModelInfo, parallel: int) -> SelftestVerdict:
        """Return the verdict, which is looked up or found once in a drain."""
        known = (info.fingerprint, parallel)
        if known not in self._verdicts:
            self._verdicts[known] = await self._verdict(info, parallel)
        return self._verdicts[known]

    async def _verdict(self, info: ModelInfo, parallel: int) -> SelftestVerdict:
        """Return the last verdict, or that of a new test, which is recorded."""
        key = selftest_key(info, parallel)
        store, note = self._context.store, self._context.display.note
        known = await store.call(queue.last_selftest, key)
        if known is not None:
            return known
        many = format_count(parallel, "conversation")
        note(f"testing {info.name} with {many} at once on this machine; the verdict is kept")
        try:
            verdict = await self._context.supervisor.selftest(parallel)
        except LoadDied as error:
            self._deaths[info.fingerprint, parallel] += 1
            if self._deaths[info.fingerprint, parallel] < MOST_DEATHS:
                raise
            verdict = SelftestVerdict(passed=False, failed=f"the model process died of it: {error}")
        except EnvironmentFault as fault:
            raise SlotsRefused(f"{info.name}: {fault}; work with --parallel 1") from None
        except JobError as error:
            verdict = SelftestVerdict(passed=False, failed=f"it ended with an error: {error}")
        await store.call(queue.record_selftest, key, info.name, verdict)
        if verdict.passed:
            note("the test has passed: an answer does not depend on what runs beside it")
        return verdict
