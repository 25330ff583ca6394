"""What the worker takes for the model process: asks the fork server for one, and ends as it ends.

`python -I -S doorway.py SOCKET ROLE`. It hands its pipes over, so that they are the model
process's alone; once it is killed, so is the model process.
"""

import os
import signal
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    socket.send_fds(server, [sys.argv[2].encode()], [0, 1, 2])
    for stream in (0, 1, 2):
        os.close(stream)
    code = int(server.recv(16) or b"70")
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
