"""The process that checks answers: loads a function once, then gives verdicts until its pipe ends.

It is killed if a check takes too long, and ends by itself if nobody is left to do that. What the
function prints goes to the worker's log.
"""

import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import msgspec

from .function import AcceptFunction, call, load, load_fault
from .protocol import Check, LoadFunction, Verdict, log, one_line
from .rules import broken_rule

ORPHAN_SECONDS = 10.0
"""How much longer than its limit anything may take; the worker has killed the process by then."""

_load = msgspec.json.Decoder(LoadFunction)
_check = msgspec.json.Decoder(Check)


def main() -> None:
    """Take over the pipes, load the function, give verdicts."""
    # only the worker decides what Ctrl-C means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe_in = os.fdopen(os.dup(0), "rb")
    pipe_out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    with suppress(BrokenPipeError):  # the worker is gone
        serve(pipe_in, pipe_out)


def serve(pipe_in: BinaryIO, pipe_out: BinaryIO) -> None:
    """Answer the lines of one pipe on the other; the first one loads the function."""
    function: AcceptFunction | None = None
    verdict = Verdict()
    frame = _load.decode(pipe_in.readline())
    if frame.name:
        try:
            with _ended_after(frame.seconds):
                function = load(frame)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's file raises anything
            log(f"accept function: {traceback.format_exc()}")
            verdict = Verdict(fault=load_fault(error, frame.path))
    _write(pipe_out, verdict)
    while line := pipe_in.readline():
        check = _check.decode(line)
        with _ended_after(check.seconds):
            verdict = judge(check, function)
        _write(pipe_out, verdict)


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """End this process if the block takes much longer than `seconds`: its worker is gone then."""
    # the user's file may have set it
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + ORPHAN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def judge(check: Check, function: AcceptFunction | None) -> Verdict:
    """Return the verdict of the rules if there are any, else that of the function."""
    if check.rules is not None:
        broken = broken_rule(check.rules, check.answer["final"])
        return Verdict() if broken is None else Verdict(rejected=one_line(broken))
    return Verdict() if function is None else call(function, check.job, check.answer)


def _write(pipe_out: BinaryIO, verdict: Verdict) -> None:
    pipe_out.write(msgspec.json.encode(verdict) + b"\n")
    pipe_out.flush()
