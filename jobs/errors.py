"""Every error a user can meet, in one tree; the exit code is part of the class.

::

    MhBatchError
    ├── InputError (2)              the command or its input is wrong
    │   ├── SettingsError           an unknown setting, or a value out of range
    │   ├── BadLines                lines of a file, each with its number, field and reason
    │   ├── AlreadySubmitted        the file is in the queue, or was
    │   └── UnknownTarget           no such batch or job
    ├── EnvironmentFault (3)        the machine is not ready: nothing was lost, try again
    │   ├── NoModel                 no model was named anywhere
    │   ├── ModelNotLoaded          a model that does not exist or does not load
    │   ├── ModelChanged            a batch began with other weights
    │   ├── ModelProcessDied        the process that holds the model is gone
    │   ├── StoreUnusable           not a database, a newer one, a full disk, no rights
    │   └── WorkerRunning           another worker holds the lock
    ├── Interrupted (1)             somebody stopped the command; nothing was changed
    └── JobError                    one job cannot be done; the queue goes on
        └── PromptTooLong           its last message does not fit the context
"""

from collections.abc import Sequence

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
    """One refused line: its 1-based number and why, with the field in the reason."""

    number: int
    reason: str


class BadLines(InputError):
    """Lines of one file that cannot become jobs; none of the file landed.

    `lines` holds the first of them, `total` how many there were.
    """

    def __init__(self, source: str, lines: Sequence[BadLine], total: int) -> None:
        self.source = source
        self.lines = tuple(lines)
        self.total = total
        shown = [f"{source}:{line.number}: {line.reason}" for line in lines]
        if total > len(shown):
            shown.append(f"{source}: and {total - len(shown)} more bad lines")
        super().__init__("\n".join(shown))


class AlreadySubmitted(InputError):
    """A file with the same bytes, of hash `source_sha256`, is a batch already."""

    def __init__(self, message: str, source_sha256: str) -> None:
        self.source_sha256 = source_sha256
        super().__init__(message)


class UnknownTarget(InputError):
    """No batch or job has the name or number given."""


class EnvironmentFault(MhBatchError):
    """The machine is not ready for the command; nothing was lost."""

    exit_code = 3


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


class ModelProcessDied(EnvironmentFault):
    """The process that holds the model ended without being asked to."""


class StoreUnusable(EnvironmentFault):
    """The database cannot be used: not one of ours, too new, disk full, or no rights."""


class WorkerRunning(EnvironmentFault):
    """Another worker holds the lock of this database."""


class Interrupted(MhBatchError):
    """Somebody stopped a command that leaves nothing behind."""


class JobError(MhBatchError):
    """One job cannot be done. `code` is stored in `jobs.error_code`."""

    code = "job_error"


class PromptTooLong(JobError):
    """The system message and the last message alone exceed the context."""

    code = "prompt_too_long"
