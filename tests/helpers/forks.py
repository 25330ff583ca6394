"""The fork server as those see it who have processes started by it."""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mh_batch.worker.model_process.client import DOWNLOAD_PROGRESS

from .fork_server import FORKS as SOUND
from .paths import HELPERS, TESTS

DOORWAY = str(HELPERS / "doorway.py")
START_SECONDS = 120
END_SECONDS = 20

# who imports reads these, so a fork of who has imported cannot have others
AT_IMPORT = (
    "DYLD_", "HF_", "HUGGINGFACE_", "LD_", "MKL_", "MLX_", "OMP_", "OPENBLAS_", "PYTHON",
    "TIKTOKEN_", "TOKENIZERS_", "TQDM_", "TRANSFORMERS_", "XDG_",
)  # fmt: skip
Starter = Callable[..., Awaitable[Any]]
FORKED = ("mh_batch.worker.model_process", "mh_batch.worker.server.background.child")
"""Modules that are processes of ours."""


@contextmanager
def fork_server(folder: Path, player: str) -> Iterator[str]:
    """Run a fork server for the block, yield its socket; `folder` must have a short path."""
    path = folder / "forks"
    known = os.environ.get("PYTHONPATH")
    env = {k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")}
    env["PYTHONPATH"] = os.pathsep.join([str(TESTS), *([known] if known else [])])
    command = [sys.executable, "-P", "-m", "helpers.fork_server", str(path), player]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, env={**env, **DOWNLOAD_PROGRESS}, start_new_session=True
    ) as process:
        deadline = time.monotonic() + START_SECONDS
        while not path.exists():
            assert process.poll() is None, "the fork server did not start"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        try:
            yield str(path)
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Have the fork server end itself and all it started, by the end of its input."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=END_SECONDS)
    finally:
        process.kill()


def doorway(path: str, role: Mapping[str, Any]) -> tuple[str, ...]:
    """The command that plays a role in a fork of the server at `path`, and ends as it ends."""
    return (sys.executable, "-I", "-S", DOORWAY, path, json.dumps(role))


class Forks:
    """Starts Python processes by forks of one that has imported what they need.

    The server is started by the first. What differs from a start: the session is their own, what is
    imported stays so, and a signal reaches the doorway alone, whose death takes the fork along.
    """

    def __init__(self, path: str | None = None) -> None:
        """`path` is the socket of a server that runs, whose player is `helpers.forked_python`."""
        self._path = path
        self._running = ExitStack()
        self._environ = dict(os.environ)

    def command(
        self,
        command: Sequence[str],
        folder: str | Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> tuple[str, ...]:
        """What to start instead of this Python command; itself where a fork would not do."""
        env = os.environ if env is None else env
        if not SOUND or command[0] != sys.executable or _settled(env) != _settled(self._environ):
            return tuple(command)
        role = {
            "role": "python",
            "arguments": [word for word in command[1:] if word != "-P"],
            "folder": os.fspath(folder or Path.cwd()),
            "environ": dict(env),
            "socket": self.socket(),
        }
        return doorway(self.socket(), role)

    def replaces(self, start: Starter) -> Starter:
        """Return an `anyio.open_process` that forks processes of ours, scripted or not."""

        async def open_process(command: Sequence[str], **options: Any) -> Any:
            if any(name in command for name in FORKED) or str(HELPERS) in command[1]:
                command = self.command(command, options.get("cwd"), options.get("env"))
            return await start(command, **options)

        return open_process

    def close(self) -> None:
        """End the server, if it was started here."""
        self._running.close()

    def socket(self) -> str:
        """Where the server listens."""
        if self._path is None:
            # a socket's path may not be long, and pytest's folders are
            folder = self._running.enter_context(tempfile.TemporaryDirectory())
            player = "helpers.forked_python"
            self._path = self._running.enter_context(fork_server(Path(folder), player))
        return self._path


def _settled(env: Mapping[str, str]) -> dict[str, str]:
    """What an import would read of an environment; the vocabulary is named once it was loaded."""
    whole = {"TIKTOKEN_ENCODINGS_BASE": _vocabulary(), **env, **DOWNLOAD_PROGRESS}
    return {name: value for name, value in whole.items() if name.startswith(AT_IMPORT)}


@functools.cache
def _vocabulary() -> str:
    """Where the vocabulary is found by whoever is told nothing else."""
    from mh_batch.engine.harmony.vocabulary import vocabulary_folder

    return str(vocabulary_folder())
