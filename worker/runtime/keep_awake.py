"""Keeps a Mac awake with `caffeinate` while the worker runs."""

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

    `platform` is `sys.platform`, `program` the path of caffeinate or `None`. Returns `None` on any
    other system, or without the program.
    """
    if platform != "darwin" or program is None:
        return None
    # -i: no idle sleep. No -d on purpose: macOS ends long GPU work while the display is on
    return (program, "-i", "-w", str(pid))


def keep_awake() -> str | None:
    """Keep the machine awake until this process ends; return a note for the user, or `None`."""
    command = caffeinate(sys.platform, os.getpid(), shutil.which("caffeinate"))
    if command is None:
        return None
    try:
        # a session of its own: Ctrl-C must not end it, it ends with this process
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
