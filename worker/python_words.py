"""Names options in messages as Python has them."""

from collections.abc import Iterator
from contextlib import contextmanager

from mh_batch.jobs.errors import MhBatchError

WORDS = {
    "--again": "again=True",
    "--ignore-unknown": "ignore_unknown=True",
    "--model": "model=",
    "--adapter": "adapter=",
}
"""An option that a message may name, and the argument of the function."""


@contextmanager
def python_words() -> Iterator[None]:
    """Let messages of errors name arguments instead of the options of a command."""
    try:
        yield
    except MhBatchError as error:
        text = str(error)
        for option, argument in WORDS.items():
            text = text.replace(option, argument)
        error.args = (text, *error.args[1:])
        raise
