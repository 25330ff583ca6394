"""Starts processes from one that has imported everything, a fork each.

A start costs a tenth of a second instead of several seconds of imports.
`python -m helpers.fork_server SOCKET PLAYER`; it ends, with all it started, once its standard
input closes. Whoever connects sends a role (JSON) and descriptors 0, 1 and 2 for it, and is told
how it ended: `CODE`, or `-SIGNAL`. If the connection closes before, it is killed. The module
PLAYER plays a role (`play`) and has in memory what all begin with (`warm`); run as a script, it
plays the role it is given.
"""

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

FORKS = sys.platform == "linux"
"""Elsewhere a fork of what has imported MLX is not sound: the role starts a fresh Python."""

MESSAGE_BYTES = 65536


class ForkServer:
    """Serves one socket; a single thread, for a fork takes no other thread along."""

    def __init__(self, path: str, player: str) -> None:
        self._player = player
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._children: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, wake = socket.socketpair()
        for end in (self._woken, wake):
            end.setblocking(False)
        self._wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno())

    def serve(self) -> None:
        """Start, watch and reap until standard input closes."""
        for source in (self._listener, self._woken, sys.stdin):
            self._selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._woken:
                    self._reap()
                elif key.fileobj is sys.stdin:
                    return self._end()
                else:
                    self._hang_up(key.data)

    def _accept(self) -> None:
        asker, _ = self._listener.accept()
        message, descriptors, _, _ = socket.recv_fds(asker, MESSAGE_BYTES, 3)
        role = json.loads(message)
        if role["role"] == "alive":
            asker.sendall(str(len(self._children)).encode())
            asker.close()
            return
        pid = os.fork()
        if pid == 0:
            self._become(asker, role, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self._children[pid] = asker
        self._selector.register(asker, selectors.EVENT_READ, pid)

    def _become(self, asker: socket.socket, role: dict[str, Any], streams: list[int]) -> None:
        """In the fork: let go of everything of the server's, and play the role."""
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for mine in (asker, self._listener, self._woken, self._wake, *self._children.values()):
                mine.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            if not FORKS:
                fresh = [sys.executable, "-m", self._player, json.dumps(role)]
                os.execv(sys.executable, fresh)
            code = importlib.import_module(self._player).play(role)
        except BaseException:  # noqa: BLE001  (nothing of the server's may run in a fork)
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _hang_up(self, pid: int) -> None:
        """Kill what nobody waits for any more."""
        self._selector.unregister(self._children[pid])
        os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        self._woken.recv(4096)
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            asker = self._children.pop(pid)
            if asker in self._selector.get_map():
                self._selector.unregister(asker)
            with suppress(OSError):  # whoever asked was killed meanwhile
                asker.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            asker.close()

    def _end(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    if FORKS:
        importlib.import_module(sys.argv[2]).warm()
        gc.freeze()  # else a collection in a fork copies all of it
    Path(sys.argv[1]).unlink(missing_ok=True)
    ForkServer(*sys.argv[1:]).serve()
