"""`/v1/models` and `/health`."""

import time
from importlib.metadata import version

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mh_batch.store.counts import queue_counts
from mh_batch.worker.runtime.worker_pid import worker_pid

from .http.errors import JsonResponse, missing
from .objects import Object
from .state import ServerState


class Info:
    """What the server can do, and how it is."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._begun = int(time.time())

    def routes(self) -> list[Route]:
        """Return the addresses."""
        return [
            Route("/health", self.health, methods=["GET"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{id:path}", self.model, methods=["GET"]),
        ]

    async def health(self, _request: Request) -> Response:
        """Say whether a worker is at the queue, and what waits in it.

        `degraded` says that nobody works: what clients send is queued all the same.
        """
        db, worker = self._state.options.db, self._state.worker
        pid = await anyio.to_thread.run_sync(worker_pid, db)
        counts = await self._state.reader.call(queue_counts)
        body = {
            "status": "degraded" if pid is None else "ok",
            "version": version("mh-batch"),
            "worker": {
                "running": pid is not None,
                "pid": pid,
                "started_here": worker is not None and worker.running,
                "fault": None if worker is None else worker.fault,
            },
            "jobs": counts,
        }
        return JsonResponse(body)

    async def models(self, _request: Request) -> Response:
        """List the models that lines may name."""
        models = [self._object(name) for name in await self._state.models()]
        return JsonResponse({"object": "list", "data": models})

    async def model(self, request: Request) -> Response:
        """Return one of these models."""
        name = request.path_params["id"]
        if name not in await self._state.models():
            raise missing(f"The model '{name}' is not one that this server lists", "model")
        return JsonResponse(self._object(name))

    def _object(self, name: str) -> Object:
        return {"id": name, "object": "model", "created": self._begun, "owned_by": "mh-batch"}
