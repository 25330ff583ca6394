"""Where the program is told that it passes a phase: its functions, wrapped from outside."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mh_batch.engine import attempt
from mh_batch.engine.attempt import AttemptPlan
from mh_batch.engine.generate import Generator
from mh_batch.engine.kv_cache.prefill import Prefill
from mh_batch.jobs.generation import GenerationRequest
from mh_batch.store import queue
from mh_batch.store.queue import recording, submit
from mh_batch.worker.model_process.child.server import ModelServer
from mh_batch.worker.model_process.protocol import HEADER_BYTES, Generated, decode_to_parent
from mh_batch.worker.model_process.supervisor import ModelSupervisor
from mh_batch.worker.submission import submission

from .strikes import Strikes

AGAIN, ASKED = "again.log", "asked.log"
CHUNK_ROWS = 1
KNOWN = "SELECT 1 FROM attempts WHERE seed = ? AND continues = ?"
SUBMITTED_AT = "2026-01-02T03:04:05.678Z"
"""The day of a batch is in its prompts: nights of two days are to be compared."""

Call = Callable[..., Any]


def wrap(owner: Any, name: str, make: Callable[[Call], Call]) -> None:
    """Put what `make` makes of a function in its place."""
    setattr(owner, name, make(getattr(owner, name)))


def around(before: Call | None = None, after: Call | None = None) -> Callable[[Call], Call]:
    """Return what wraps a function so that something is called before it, and after it."""

    def make(function: Call) -> Call:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if before is not None:
                before()
            result = function(*arguments, **named)
            if after is not None:
                after()
            return result

        return wrapped

    return make


class Commit:
    """Strikes right before the commit of the transactions that one function makes."""

    def __init__(self, strikes: Strikes, module: Any) -> None:
        self._strikes = strikes
        self._phase: str | None = None
        wrap(module, "immediate", self._transaction)

    def of(self, phase: str) -> Callable[[Call], Call]:
        """Return what wraps a function whose commits are a phase."""
        return around(lambda: self._set(phase), lambda: self._set(None))

    def _set(self, phase: str | None) -> None:
        self._phase = phase

    def _transaction(self, immediate: Call) -> Call:
        @contextmanager
        def wrapped(db: Any) -> Iterator[None]:
            with immediate(db):
                yield
                if self._phase is not None:
                    self._strikes.passing(self._phase)

        return wrapped


def in_worker(strikes: Strikes, folder: Path) -> None:
    """Wrap what the worker does."""
    passing = strikes.passing
    wrap(queue, "recover", around(after=lambda: passing("recovered")))
    for name in ("record_crash", "record_crashes"):
        wrap(queue, name, around(before=lambda: passing("crash noted")))
    wrap(queue, "record", Commit(strikes, recording).of("before commit"))
    wrap(queue, "record", around(after=lambda: passing("after commit")))
    wrap(ModelSupervisor, "begin", lambda begin: _asking(begin, folder))

    def claim(function: Call) -> Call:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            job = function(*arguments, **named)
            if job is not None:
                passing("claimed")
            return job

        return wrapped

    renaming = around(lambda: passing("artifact written"), lambda: passing("artifact renamed"))
    wrap(queue, "claim", claim)
    wrap(os, "replace", renaming)


def _asking(begin: Call, folder: Path) -> Call:
    """Note every attempt that is asked for, and those among them that are on record already."""

    async def wrapped(supervisor: ModelSupervisor, request: GenerationRequest) -> Any:
        # an attempt that goes on from another has its seed
        attempt = (request.seed, request.continues is not None)
        with closing(sqlite3.connect(folder / "mh-batch.db")) as db:
            known = db.execute(KNOWN, attempt).fetchone()
        for name in (ASKED, AGAIN) if known else (ASKED,):
            with (folder / name).open("a") as log:
                log.write(f"{request.seed}{' going on' * attempt[1]}\n")
        return await begin(supervisor, request)

    return wrapped


def in_model(strikes: Strikes) -> None:
    """Wrap what the model process does."""
    passing = strikes.passing
    loading = around(lambda: passing("loading"), lambda: passing("loading"))
    wrap(ModelServer, "_load", loading)
    wrap(Generator, "_fit", around(after=lambda: passing("rendering")))
    wrap(Prefill, "step", around(before=lambda: passing("prefill")))
    wrap(attempt, "read", around(after=lambda: passing("parsed")))

    def callbacks(function: Call) -> Call:
        def wrapped(plan: AttemptPlan, cancelled: Call, progress: Call) -> Any:
            token = around(before=lambda: passing("token"))
            return function(plan, cancelled, token(progress))

        return wrapped

    def begun(function: Call) -> Call:
        def wrapped(generator: Generator, request: GenerationRequest, *others: Any) -> Any:
            if request.forced_final:
                passing("rescue")
            if request.continues is not None:
                passing("going on")
            return function(generator, request, *others)

        return wrapped

    def server(function: Call) -> Call:
        def wrapped(self: ModelServer, inbox: Any, write: Callable[[bytes], None]) -> None:
            def write_and_pass(encoded: bytes) -> None:
                write(encoded)
                if isinstance(decode_to_parent(encoded[HEADER_BYTES:]), Generated):
                    passing("answered")

            function(self, inbox, write_and_pass)

        return wrapped

    wrap(AttemptPlan, "callbacks", callbacks)
    wrap(Generator, "plan", begun)
    wrap(ModelServer, "__init__", server)


def in_submit(strikes: Strikes) -> None:
    """Wrap what a submit does, in chunks of a few lines."""
    submit.CHUNK_ROWS = submission.CHUNK_ROWS = CHUNK_ROWS  # type: ignore[attr-defined]
    submit.now = lambda: SUBMITTED_AT  # type: ignore[attr-defined]
    commit = Commit(strikes, submit)
    wrap(submit.Submission, "add", commit.of("submit chunk"))
    wrap(submit.Submission, "add", around(before=lambda: strikes.passing("submit begun")))
    wrap(submit.Submission, "publish", commit.of("submit flip"))
    wrap(submit.Submission, "publish", around(after=lambda: strikes.passing("submit flipped")))
