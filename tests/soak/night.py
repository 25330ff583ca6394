"""One night: some files submitted and drained by processes that are killed as a plan says."""

import json
import os
import socket
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from . import content
from .strikes import KILLS, PASSED, PIDS, STARTS

START_SECONDS = 120
USUAL_KILLS = 200
WANTED_KILLS = int(os.environ.get("KILLS") or USUAL_KILLS)
"""How many kills a night is to have: `make soak KILLS=1000`."""

SCALE = -(-WANTED_KILLS // USUAL_KILLS)
"""How much longer a night is than usual, so that there is enough to kill."""

NIGHT_SECONDS = 1800 * SCALE
ORPHAN_SECONDS = 20
ENOUGH_FAULTS = 50


class Kills(NamedTuple):
    """Which plan a night follows; `sabotage` names a promise of the program to break."""

    seed: int = 0
    count: int = 0  # type: ignore[assignment]  # hides the method of a tuple
    sabotage: str | None = None


NO_KILLS = Kills()


class Night(NamedTuple):
    """What came of a night, and what was wrong on the way."""

    content: content.Content
    struck: tuple[tuple[str, str], ...]
    starts: tuple[str, ...]
    asked: int
    faults: tuple[str, ...]
    seconds: float


class Server:
    """The fork server, seen from the test."""

    def __init__(self, path: str) -> None:
        self._path = path

    def start(self, role: dict[str, Any], log: Path) -> socket.socket:
        """Start a role; how it ended can be read from what this returns."""
        asker = socket.socket(socket.AF_UNIX)
        asker.settimeout(NIGHT_SECONDS)
        asker.connect(self._path)
        with log.open("ab") as out, open(os.devnull, "rb") as nothing:  # noqa: PTH123
            streams = [nothing.fileno(), out.fileno(), out.fileno()]
            socket.send_fds(asker, [json.dumps({**role, "socket": self._path}).encode()], streams)
        return asker

    def alive(self) -> int:
        """Return how many processes it has started that have not ended."""
        with socket.socket(socket.AF_UNIX) as asker:
            asker.settimeout(START_SECONDS)
            asker.connect(self._path)
            asker.sendall(b'{"role": "alive"}')
            return int(asker.recv(16))


def run_night(
    server: Server,
    folder: Path,
    sources: Sequence[Path],
    kills: Kills = NO_KILLS,
    parallel: int = 1,
) -> Night:
    """Submit files and drain them, each process started again as often as it is killed.

    So many conversations are with the model at once as `parallel` says.
    """
    began = time.monotonic()
    for part in (PASSED, PIDS):
        (folder / part).mkdir(parents=True)
    role = {
        "folder": str(folder),
        "seed": kills.seed,
        "kills": kills.count,
        "sabotage": kills.sabotage,
        "parallel": parallel,
    }
    faults: list[str] = []
    log = folder / "night.log"
    waiting = list(sources)
    landed = False
    while waiting or not landed or _unfinished(folder):
        if time.monotonic() - began > NIGHT_SECONDS or len(faults) >= ENOUGH_FAULTS:
            faults.append("the night did not come to an end")
            break
        submit = None
        if waiting:
            asked = {**role, "role": "submitter", "source": str(waiting[0])}
            submit = server.start(asked, log)
        worker = server.start({**role, "role": "worker"}, log) if landed else None
        if submit is not None and _ended(submit, faults) == 0:
            waiting, landed = waiting[1:], True
        if worker is not None:
            _ended(worker, faults)
            faults += content.not_ended(folder, set(_lines(folder / "told.log")))
    faults += _orphans(server, folder)
    faults += content.unsound(folder)
    faults += [f"generated again: seed {seed}" for seed in _lines(folder / "again.log")]
    struck = tuple((line.split("\t")[0], line.split("\t")[1]) for line in _lines(folder / KILLS))
    starts = tuple(_lines(folder / STARTS))
    asked_for = len(_lines(folder / "asked.log"))
    seconds = time.monotonic() - began
    return Night(content.content(folder), struck, starts, asked_for, tuple(faults), seconds)


def _ended(process: socket.socket, faults: list[str]) -> int:
    """Wait until a process has ended; only a kill, or a model that would not load, may end it."""
    with process:
        code = int(process.recv(16))
    if code not in (0, -9, 3):
        faults.append(f"a process ended with {code}")
    return code


def _unfinished(folder: Path) -> bool:
    open_jobs = "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running')"
    with closing(sqlite3.connect(folder / "mh-batch.db")) as db:
        return bool(db.execute(open_jobs).fetchone()[0])


def _orphans(server: Server, folder: Path) -> list[str]:
    """Return what is left of a night that is over: processes, and locks that somebody holds."""
    from mh_batch.store.lock import worker_lock

    deadline = time.monotonic() + ORPHAN_SECONDS
    while server.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    left = server.alive()
    with worker_lock(folder / "mh-batch.db"):
        pass
    return [f"{left} orphan processes"] if left else []


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
