"""Checks good answers by the rules of their job and by the function of the drain."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Self

import anyio
import anyio.to_thread
import msgspec

from mh_batch.jobs.answers.accept_rules import AcceptRules
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.record import ClaimedJob
from mh_batch.worker.controller.conversation import GoodAnswer

from .function import AcceptFunction, FunctionFile, call, check_signature, record_of
from .pool import CheckPool
from .protocol import Check, Verdict

LOUD = 3
"""After this many faults of the function in a row, the drain says so."""


class Checker:
    """Gives verdicts on good answers, within `seconds` each.

    Rules and functions that are in a file are checked in processes of their own; any other
    function is called in a thread of the worker, one answer at a time. What goes wrong with a
    function rejects the answer: it is neither accepted unseen nor does it end the drain.
    """

    def __init__(
        self,
        function: AcceptFunction | str | None,
        log_path: Path,
        seconds: float,
        parallel: int,
        note: Callable[[str], object],
    ) -> None:
        """`function` may be a `FILE.py:function`; raises `InputError` if there is none such.

        `note` tells a person that the function fails.
        """
        self._file, self._called = _found(function)
        self._seconds = seconds
        self._note = note
        self._pool = CheckPool(self._file, log_path, seconds, parallel)
        self._one_call = anyio.CapacityLimiter(1)
        self._faults = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._pool)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def load(self) -> None:
        """Load the function where it is in a file; raises `InputError` if that cannot be."""
        if self._file is not None:
            await self._pool.try_function()

    @property
    def record(self) -> str | None:
        """What `runs.accept` has of the function; `None` if there is none."""
        if self._file is not None:
            return self._file.record
        return None if self._called is None else record_of(self._called)

    def checks(self, job: ClaimedJob) -> bool:
        """Whether the answers of a job are checked."""
        return self._has_function or _rules(job) is not None

    async def rejection(self, job: ClaimedJob, good: GoodAnswer) -> str | None:
        """Return why an answer is not accepted, `None` if it is."""
        rules, answer = _rules(job), _answer(good)
        if rules is not None:
            # they need no conversation, which may be long
            verdict = await self._pool.check(Check(rules, {}, answer, self._seconds))
            if verdict != Verdict():
                return _reason("rules", verdict)
        if not self._has_function:
            return None
        verdict = await self._asked(Check(None, _job(job, good), answer, self._seconds))
        self._count(verdict)
        return _reason("function", verdict)

    @property
    def _has_function(self) -> bool:
        return self._file is not None or self._called is not None

    async def _asked(self, check: Check) -> Verdict:
        """Return the verdict of the function."""
        if self._called is None:
            return await self._pool.check(check)
        async with self._one_call:
            return await _in_thread(
                partial(call, self._called, check.job, check.answer), self._seconds
            )

    def _count(self, verdict: Verdict) -> None:
        """Tell a person once that the function fails at one answer after the other."""
        self._faults = self._faults + 1 if verdict.fault is not None else 0
        if self._faults == LOUD:
            self._note(
                f"the accept function failed at {LOUD} answers in a row, at last with: "
                f"{verdict.fault}; these answers count as rejected: if the function is wrong, "
                "stop, mend it, and `mh-batch retry` what is incomplete"
            )


def _found(
    function: AcceptFunction | str | None,
) -> tuple[FunctionFile | None, AcceptFunction | None]:
    """Return a function's file, or the function itself where it has none."""
    if function is None:
        return None, None
    if isinstance(function, str):
        return FunctionFile.parse(function), None
    if not callable(function):
        raise InputError(f"accept: {function!r} is no function")
    try:
        check_signature(function)
    except TypeError as error:
        raise InputError(f"accept: {error}") from None
    file = FunctionFile.of(function)
    return (file, None) if file is not None else (None, function)


async def _in_thread(ask: Callable[[], Verdict], seconds: float) -> Verdict:
    """Ask in a thread, which nobody can kill: one that is too slow is left to itself."""
    future: Future[Verdict] = Future()
    # a daemon: a function that never returns must not keep the worker from ending
    Thread(target=lambda: future.set_result(ask()), daemon=True, name="accept").start()
    try:
        return await anyio.to_thread.run_sync(
            partial(future.result, seconds), abandon_on_cancel=True
        )
    except TimeoutError:
        return Verdict(fault=f"no verdict within {seconds:g} s")


def _reason(what: str, verdict: Verdict) -> str | None:
    """Return why an answer is not accepted, by the rules or by the function."""
    return verdict.rejected or (verdict.fault and f"accept {what}: {verdict.fault}")


def _rules(job: ClaimedJob) -> AcceptRules | None:
    rules = job.settings.output.accept
    return None if rules == AcceptRules() else rules


def _job(job: ClaimedJob, good: GoodAnswer) -> dict[str, Any]:
    """Return what a function gets of a job: the conversation that is answered, and what is known.

    Tool calls of earlier steps, and what they returned, are messages of the conversation.
    """
    return _plain(
        {
            "custom_id": job.custom_id,
            "batch_id": job.batch_id,
            "model": job.model,
            "messages": good.messages,
            "tools": job.request.tools,
            "metadata": job.metadata,
        }
    )


def _answer(good: GoodAnswer) -> dict[str, Any]:
    """Return what a function gets of an answer: its texts, and which attempt it is."""
    texts = {"final": good.final, "analysis": good.analysis}
    return {**texts, **msgspec.structs.asdict(good.key)}


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(value))  # type: ignore[no-any-return]
