"""Names options in messages as Python has them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mh_batch.jobs.errors import MhBatchError

_MAP = re.compile(r"--map (\w+)=([^\s;,:]+)")
_SET = re.compile(r"--set (\w+)=([^\s;,:`]+)")
_FLAGS = frozenset({"again", "ignore-unknown", "override-model", "skip-bad"})
_OPTIONS = (
    *(
        "adapter",
        "again",
        "ignore-unknown",
        "limit",
        "map",
        "max-line-mib",
        "model",
        "n",
        "order",
        "override-model",
        "profile",
    ),
    *("prompt", "repeat", "rescued", "sample", "schema", "seed", "skip-bad", "system", "template"),
    *("finish-reason", "status", "where"),
)
# not where a word goes on: a name in the data may begin like an option
_OPTION = re.compile(rf"(?<![\w-])--({'|'.join(_OPTIONS)})(?![\w-])")
_OTHERS = {"status": "statuses", "finish-reason": "finish_reasons"}


@contextmanager
def python_words() -> Iterator[None]:
    """Let messages of errors name arguments instead of the options of a command."""
    try:
        yield
    except MhBatchError as error:
        error.args = (in_python(str(error)), *error.args[1:])
        raise


def in_python(text: str) -> str:
    """Return a message with the arguments of functions in place of options."""
    text = _MAP.sub(r'map={"\1": "\2"}', text)
    text = _SET.sub(r'settings={"\1": \2}', text)
    return _OPTION.sub(_argument, text)


def _argument(found: "re.Match[str]") -> str:
    option = found[1]
    name = _OTHERS.get(option, option.replace("-", "_"))
    return f"{name}={'True' if option in _FLAGS else ''}"
