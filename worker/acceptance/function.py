"""A function of the user that checks answers: where it is, how it is loaded and called."""

import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from mh_batch.jobs.errors import InputError, describe_error

from .protocol import LoadFunction, Verdict, log, one_line

AcceptFunction = Callable[[dict[str, Any], dict[str, Any]], str | None]
"""Takes the job and the answer; returns `None` if it is accepted, else the reason why not."""

MODULE = "mh_batch_accept"
"""The name of the file's module in a checking process: never `__main__`."""


class FunctionFile(msgspec.Struct, frozen=True):
    """A function in a Python file, with the source of that file as it was read."""

    path: str
    name: str
    source: bytes

    @classmethod
    def parse(cls, spec: str) -> "FunctionFile":
        """Read the file that `FILE.py:function` names; raises `InputError`."""
        file, colon, name = spec.rpartition(":")
        if not (colon and file and name.isidentifier()):
            raise InputError(f"accept: {spec}: write it as FILE.py:function")
        try:
            return cls(str(Path(file).resolve()), name, Path(file).read_bytes())
        except OSError as error:
            raise InputError(f"accept: {file}: {error.strerror}") from None

    @classmethod
    def of(cls, function: AcceptFunction) -> "FunctionFile | None":
        """Return the file that a function can be loaded from in another process, else `None`.

        Only a function that its module has by its name can be, and only of a module that is a file
        by itself: not the script that runs, which would run again.
        """
        module, name = getattr(function, "__module__", None), getattr(function, "__name__", "")
        found = sys.modules.get(module or "")
        path = getattr(found, "__file__", None)
        alone = module != "__main__" and not getattr(found, "__package__", "")
        if not (path and alone and getattr(found, name, None) is function):
            return None
        try:
            return cls(path, name, Path(path).read_bytes())
        except OSError:
            return None

    @property
    def record(self) -> str:
        """What `runs.accept` has of it: the file's name, the function's, and the source's hash."""
        return _record(f"{Path(self.path).name}:{self.name}", self.source)

    @property
    def frame(self) -> LoadFunction:
        """What loads it in a checking process."""
        return LoadFunction(self.name, self.path, self.source)


def record_of(function: AcceptFunction) -> str:
    """Return what `runs.accept` has of a function that is called in the worker itself."""
    try:
        source: bytes | None = inspect.getsource(function).encode()
    except (OSError, TypeError):
        source = None
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return _record(f"{getattr(function, '__module__', None)}:{name}", source)


def load(frame: LoadFunction) -> AcceptFunction:
    """Run the source of a file and return its function; raises whatever keeps it from that."""
    module = ModuleType(MODULE)
    module.__file__ = frame.path
    # dataclasses and pickle look a module up by its name
    sys.modules[MODULE] = module
    exec(compile(frame.source, frame.path, "exec"), module.__dict__)
    function = getattr(module, frame.name, None)
    if not callable(function):
        raise AttributeError(f"there is no function {frame.name} in it")
    check_signature(function)
    return function  # type: ignore[no-any-return]


def load_fault(error: BaseException, path: str) -> str:
    """Return why a file could not be loaded, with the file and the line where that is known."""
    if isinstance(error, SyntaxError):
        file, line = error.filename, error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        file, line = path, lines[-1] if lines else None
    where = "" if file is None or line is None else f" ({Path(file).name}, line {line})"
    return one_line(describe_error(error) + where)


def check_signature(function: Callable[..., Any]) -> None:
    """Raise `TypeError` unless a function takes a job and an answer."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return
    try:
        signature.bind({}, {})
    except TypeError:
        name = getattr(function, "__name__", function)
        raise TypeError(f"{name}{signature} must take a job and an answer") from None


def call(function: AcceptFunction, job: dict[str, Any], answer: dict[str, Any]) -> Verdict:
    """Ask a function; what it raises, and what is neither `None` nor a reason, is its fault."""
    try:
        said = function(job, answer)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever it raises is its own fault
        log(f"accept function: {traceback.format_exc()}")
        return Verdict(fault=one_line(describe_error(error)))
    if said is None:
        return Verdict()
    if isinstance(said, str) and said.strip():
        return Verdict(rejected=one_line(said))
    if inspect.iscoroutine(said):
        said.close()
    returned = one_line(repr(said))
    return Verdict(fault=f"it returned {returned}, which is neither None nor a reason")


def _record(name: str, source: bytes | None) -> str:
    digest = None if source is None else hashlib.sha256(source).hexdigest()
    return msgspec.json.encode({"name": name, "sha256": digest}).decode()
