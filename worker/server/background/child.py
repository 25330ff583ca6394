"""The worker of a server: `work --watch` in a process of its own that ends with its server.

Its only argument are its options, as JSON. Started by the server, never by hand.
"""

import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec

from mh_batch.jobs.errors import MhBatchError
from mh_batch.worker.draining.run import work
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.progress.plain_display import PlainDisplay
from mh_batch.worker.runtime.child import PYTHON
from mh_batch.worker.runtime.keep_awake import keep_awake

EXIT_PROBLEM = 1


def command(options: DrainOptions) -> tuple[str, ...]:
    """Return the command that starts a worker with these options."""
    encoded = msgspec.json.encode(options, enc_hook=str).decode()
    return (*PYTHON, "-m", "mh_batch.worker.server.background.child", encoded)


def decode_options(encoded: str) -> DrainOptions:
    """Return the options of such a command."""
    return msgspec.json.decode(encoded, type=DrainOptions, dec_hook=_decode)


def main() -> int:
    """Work until a signal comes, or the server is gone; return the exit code."""
    options = decode_options(sys.argv[1])
    threading.Thread(target=_end_with_server, daemon=True).start()
    keep_awake()
    try:
        display = PlainDisplay(sys.stderr)
        outcome = anyio.run(partial(work, options, display, raises=False))
    except MhBatchError as error:
        display.note(str(error))
        return error.exit_code
    if outcome.fault is not None and not outcome.fault.noted:
        display.note(str(outcome.fault))
    return outcome.exit_code


def _end_with_server() -> None:
    """End the worker when its standard input does: its server was killed."""
    # not by `sys.stdin`, whose lock a thread that waits would hold when the process ends
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)


if __name__ == "__main__":
    sys.exit(main())
