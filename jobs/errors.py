"""All errors that a user can see, in one tree; the exit code is part of the class.

::

    MhBatchError
    ├── InputError (2)              the command or its input is wrong
    │   ├── SettingsError           an unknown setting, or a value out of range
    │   ├── BadLines                lines of a file, each with its number, field and reason
    │   ├── AlreadySubmitted        the file is a batch already
    │   └── UnknownTarget           no such batch or job
    ├── EnvironmentFault (3)        the machine is not ready: nothing was lost, try again
    │   ├── NoModel                 no model was named anywhere
    │   ├── ModelNotLoaded          a model that does not exist or does not load
    │   ├── ModelChanged            a batch began with other weights
    │   ├── SlotsRefused            several conversations at once failed the self-test
    │   ├── ModelProcessDied        the process that holds the model is gone
    │   ├── StoreUnusable           not a database, a newer one, a full disk, no rights
    │   └── WorkerRunning           another worker holds the lock
    ├── Interrupted (1)             somebody stopped the command; nothing was changed
    └── JobError                    one job cannot be done; the queue goes on
        ├── PromptTooLong           its last message does not fit the context
        ├── ModelCrashed            the model process died on it again and again
        └── InternalError           an unexpected error of the program
"""

import traceback
from collections.abc import Sequence
from typing import Literal

import msgspec


class MhBatchError(Exception):
    """Base of all errors of this program; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(MhBatchError):
    """The command or its input is wrong; nothing was changed."""

    exit_code = 2


class SettingsError(InputError):
    """An unknown setting, or a value that it does not take."""


class BadLine(msgspec.Struct, frozen=True):
    """One refused line: its 1-based number and why, with the field in the reason.

    `keys` are those of a line of no known shape.
    """

    number: int
    reason: str
    keys: tuple[str, ...] = ()


class BadLines(InputError):
    """Lines of one file that cannot become jobs; none of the file landed.

    `lines` holds the first of them, `total` how many there were. `messages` say what is wrong,
    once for all lines with the same fault.
    """

    def __init__(
        self, source: str, lines: Sequence[BadLine], total: int, messages: Sequence[str]
    ) -> None:
        self.source = source
        self.lines = tuple(lines)
        self.total = total
        super().__init__("\n".join(messages))


class AlreadySubmitted(InputError):
    """A file with the same bytes is a batch already.

    `same_batch` is the latest such batch with the same settings, `None` if all have others.
    """

    def __init__(self, message: str, same_batch: int | None) -> None:
        self.same_batch = same_batch
        super().__init__(message)


class UnknownTarget(InputError):
    """No batch or job has the name or number given."""


class EnvironmentFault(MhBatchError):
    """The machine is not ready for the command; nothing was lost.

    `noted` says that the display has shown the whole message already.
    """

    exit_code = 3
    noted = False


class NoModel(EnvironmentFault):
    """Neither the job, the command, the environment nor the configuration names a model."""


class ModelNotLoaded(EnvironmentFault):
    """The model does not exist or does not load."""


class ModelChanged(EnvironmentFault):
    """A batch that began with one set of weights would go on with another.

    `batch_id` is `None` where the weights changed under a running worker.
    """

    def __init__(self, message: str, batch_id: int | None = None) -> None:
        self.batch_id = batch_id
        super().__init__(message)


class SlotsRefused(EnvironmentFault):
    """A model does not give the promised results with several conversations at once."""


class ModelProcessDied(EnvironmentFault):
    """The process that holds the model died, or fails at every request."""


class StoreUnusable(EnvironmentFault):
    """The database cannot be used: not one of ours, too new, disk full, or no rights."""


class WorkerRunning(EnvironmentFault):
    """Another worker holds the lock of this database."""


class Interrupted(MhBatchError):
    """Somebody stopped a command; nothing was changed."""


class JobError(MhBatchError):
    """One job cannot be done. `code` is stored in `jobs.error_code`."""

    code = "job_error"


class PromptTooLong(JobError):
    """The system message and the last message alone exceed the context."""

    code = "prompt_too_long"


class ModelCrashed(JobError):
    """The model process died too often in a row on one attempt."""

    code = "model_crashed"


Stage = Literal[
    "row", "resume", "next", "render", "encode", "generate", "decision", "artifacts", "record"
]
"""The stages of a job, in order: read its row and its history, ask the controller what to do,
render the prompt, send the request; generate and parse, decide, write artifacts, record."""

BEFORE_MODEL: frozenset[Stage] = frozenset({"row", "resume", "next", "render", "encode"})
"""Stages without the model: a failure there says nothing about it."""


class InternalError(JobError):
    """An unexpected error of the program at one job; `stage` says where.

    The traceback is in the worker's log.
    """

    code = "internal_error"

    def __init__(self, message: str, stage: Stage) -> None:
        self.stage = stage
        super().__init__(message)

    @property
    def before_model(self) -> bool:
        """Whether it happened without the model."""
        return self.stage in BEFORE_MODEL


LONGEST_DESCRIPTION = 2000  # characters


def storable(text: str) -> str:
    """Return `text` with lone surrogates escaped: SQLite and files do not take them."""
    return text.encode("utf-8", "backslashreplace").decode()


def describe_error(error: BaseException) -> str:
    """Return the kind and message of an error in one storable line of bounded length."""
    text = " ".join(storable(traceback.format_exception_only(error)[-1]).split())
    return text if len(text) <= LONGEST_DESCRIPTION else f"{text[:LONGEST_DESCRIPTION]}…"
