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

    async def require(self, parallel: int) -> None:
        """Return if the model in memory may run in so many slots.

        Raises `SlotsRefused` if the test fails or has failed, unless the options allow variance, or
        if the model cannot run so, and `LoadDied` if the process dies of it.
        """
        info = self._context.supervisor.info
        if parallel == 1 or info is None:
            return
        allowed, known = self._context.options.allow_variance, (info.fingerprint, parallel)
        new = known not in self._verdicts
        if new:
            self._verdicts[known] = await self._verdict(info, parallel)
        verdict = self._verdicts[known]
        if verdict.passed:
            return
        many = format_count(parallel, "conversation")
        what = f"{info.name} failed the self-test with {many} at once: {verdict.what_failed}"
        if not allowed:
            raise SlotsRefused(
                f"{what}; work with --parallel 1, or with --allow-variance if answers may depend "
                "on what runs beside them"
            )
        if new:
            await self._context.store.call(queue.allow_variance, self._context.run_id)
            self._context.display.note(f"{what}; going on all the same (--allow-variance)")

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
