"""What goes to a checking process and back: one JSON object a line."""

import sys
from typing import Any

import msgspec

from mh_batch.jobs.answers.accept_rules import AcceptRules
from mh_batch.jobs.errors import storable

MAX_REASON_CHARS = 500
"""A longer reason is cut: it goes into the prompt of the next attempt."""

MAX_LINE_BYTES = 1 << 20
"""The longest line of a checking process; a reply holds a reason and no more."""


LOAD_SECONDS = 120.0
"""How long the user's file may take to load: it may import large libraries."""


class LoadFunction(msgspec.Struct, frozen=True):
    """A function to check with, as the `source` of its file; without `name`, there is none.

    It is to be loaded within `seconds`.
    """

    name: str = ""
    path: str = ""
    source: bytes = b""
    seconds: float = LOAD_SECONDS


class Check(msgspec.Struct, frozen=True):
    """An answer to check, within `seconds`: by these rules, by the loaded function if `None`.

    `job` and `answer` are what the function gets.
    """

    rules: AcceptRules | None
    job: dict[str, Any]
    answer: dict[str, Any]
    seconds: float


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of a check.

    `rejected` is why the answer is not accepted, `None` if it is. `fault` is what went wrong with
    the function instead of a verdict, `None` if nothing did.
    """

    rejected: str | None = None
    fault: str | None = None


def one_line(text: str) -> str:
    """Return a reason as a storable line of bounded length."""
    line = " ".join(storable(text).split())
    return line if len(line) <= MAX_REASON_CHARS else f"{line[:MAX_REASON_CHARS]}…"


def log(text: str) -> None:
    """Write to standard error, which is the worker's log in a checking process."""
    sys.stderr.write(f"{storable(text).rstrip()}\n")
    sys.stderr.flush()
