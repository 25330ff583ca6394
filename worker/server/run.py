"""`mh-batch serve`: the server and its worker, from start to end."""

import logging
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import anyio
from starlette.routing import Router

from mh_batch.jobs.errors import InputError
from mh_batch.store.connection import open_reader
from mh_batch.store.server.files import remove_leftovers
from mh_batch.store.server.server_lock import server_lock
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.runtime.store_thread import StoreThread

from .background.child import command
from .background.keeper import Keeper
from .background.submitter import Submitter
from .background.worker_process import WorkerProcess
from .batches import Batches
from .files import Files
from .http.guard import Access, Guard, bracketed, is_loopback
from .http.server import Server, http_server, listen
from .info import Info
from .state import ServerOptions, ServerState, WorkerState

WANTED_FILES = 4096


def check_options(options: ServerOptions) -> None:
    """Raise `InputError` for a server that others could use without a key."""
    if options.api_key == "":
        raise InputError("--api-key: empty")
    if options.api_key is not None and not options.api_key.isascii():
        raise InputError("--api-key: must be ASCII, as it travels in a header")
    if options.api_key is None and not is_loopback(options.host):
        raise InputError(
            f"--host {options.host}: other machines could read and queue everything; "
            "give an --api-key, or MH_BATCH_API_KEY"
        )


async def serve(options: ServerOptions, worker: DrainOptions | None) -> None:
    """Answer requests until SIGINT or SIGTERM; with `worker` options, also run a worker.

    The first signal lets the worker end its turn, the second ends it at once. Raises
    `EnvironmentFault` if the address cannot be used, or another server is at the database.
    """
    check_options(options)
    _allow_connections()
    # it tells of each form that is none; clients are told by the answer
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    with (
        server_lock(options.db),
        anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
    ):
        async with _open_state(options, worker is not None) as state:
            listener = listen(options.host, options.port)
            access = Access(options.host, listener.getsockname()[1], options.api_key)
            guard = Guard(_router(state), access)
            server = http_server(guard, partial(_announce, access))
            child = None
            if worker is not None and state.worker is not None:
                child = WorkerProcess(command(worker), state.worker)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Submitter(state).run)
                tasks.start_soon(Keeper(state).run)
                tasks.start_soon(_end_on_signal, signals, server, child)
                await _run_both(server, listener, child)
                tasks.cancel_scope.cancel()


@asynccontextmanager
async def _open_state(options: ServerOptions, with_worker: bool) -> AsyncIterator[ServerState]:
    async with AsyncExitStack() as stack:
        # it makes the database if there is none
        writer = await stack.enter_async_context(StoreThread(options.db))
        reader = await stack.enter_async_context(StoreThread(options.db, open_reader))
        state = ServerState(options, writer, reader, WorkerState() if with_worker else None)
        await writer.call(remove_leftovers, state.uploads)
        yield state


def _router(state: ServerState) -> Router:
    parts = (Files(state), Batches(state), Info(state))
    return Router([route for part in parts for route in part.routes()])


async def _run_both(server: Server, listener: socket.socket, child: WorkerProcess | None) -> None:
    """Run the server and its worker until both have ended."""
    async with anyio.create_task_group() as tasks:
        if child is not None:
            tasks.start_soon(child.run)
        with listener:
            await server.serve(sockets=[listener])


async def _end_on_signal(
    signals: AsyncIterator[int], server: Server, child: WorkerProcess | None
) -> None:
    async for _ in signals:
        server.force_exit = server.should_exit
        if child is not None:
            child.stop()
        server.should_exit = True


def _announce(access: Access) -> None:
    """Print where the server is."""
    where = f"http://{bracketed(access.host)}:{access.port}/v1"
    sys.stdout.write(f"mh-batch: serving at {where} (Ctrl-C ends it)\n")
    sys.stdout.flush()


def _allow_connections() -> None:
    """Let this process have enough open files for its connections; a Mac allows 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
