"""A command of the user's, run by the shell with a time limit."""

import os
import signal
import subprocess
import tempfile
from contextlib import suppress

STDERR = 2


def run_in_shell(command: str, data: bytes, seconds: float) -> str | None:
    """Run a command with `data` on its standard input; return what went wrong, `None` if nothing.

    What it prints goes to standard error. It is killed after `seconds`, with all that it started.
    Whatever it does, nothing is raised.
    """
    try:
        # a file, not a pipe: the command need not read it
        with tempfile.TemporaryFile() as given:
            given.write(data)
            given.seek(0)
            # a session of its own, so that all it starts can be killed
            with subprocess.Popen(
                command,
                shell=True,
                stdin=given,
                stdout=STDERR,
                stderr=STDERR,
                start_new_session=True,
            ) as process:
                return _wait(process, seconds)
    except OSError as error:
        return error.strerror or str(error)


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> str | None:
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"killed after {seconds:g} s"
    except KeyboardInterrupt:
        return "interrupted"
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if code < 0:
        return f"ended by signal {-code}"
    return f"exit code {code}" if code else None
