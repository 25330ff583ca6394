"""A Mac that falls asleep stops the night: `caffeinate` keeps it awake for as long as we run."""

import os
import shutil
import subprocess
import sys

NOTE = (
    "keeping this Mac awake until the work is done (--allow-sleep does not); let its display "
    "sleep: macOS ends long GPU work while it is on"
)


def caffeinate(platform: str, pid: int, program: str | None) -> tuple[str, ...] | None:
    """Return the command that keeps a Mac awake until process `pid` ends.

    `platform` is `sys.platform`, `program` the path of caffeinate, `None` if there is none. `None`
    comes back where nothing is to be done: on any other system, or without the program.
    """
    if platform != "darwin" or program is None:
        return None
    # -i: no idle sleep. Without -d on purpose: macOS ends long GPU work while the display is on
    return (program, "-i", "-w", str(pid))


def keep_awake() -> str | None:
    """Keep the machine awake until this process ends; return what to say, `None` for nothing."""
    command = caffeinate(sys.platform, os.getpid(), shutil.which("caffeinate"))
    if command is None:
        return None
    try:
        # a session of its own: Ctrl-C is not for it, it ends with us
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"this Mac is not kept awake: {command[0]}: {error.strerror}"
    return NOTE
