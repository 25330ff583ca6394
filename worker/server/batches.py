"""`/v1/batches`."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mh_batch.store.clock import iso
from mh_batch.store.server.batches import (
    CHAT,
    ApiBatch,
    BatchRef,
    find_api_batch,
    list_api_batches,
    queued_jobs,
    request_cancel,
)
from mh_batch.store.server.files import find_file
from mh_batch.store.server.pending import NewApiBatch, add_batch, count_pending

from .http.bodies import read_json, read_query
from .http.errors import ApiError, JsonResponse, invalid, missing, too_many
from .objects import (
    CANCELLABLE,
    batch_object,
    batch_status,
    page_object,
    parse_batch_id,
    parse_file_id,
    parse_window,
)
from .state import ServerState

MOST_LISTED = 100
MOST_PENDING = 100
"""How many batches may wait for their validation."""

RETRY_SECONDS = 60
MetadataKey = Annotated[str, Meta(max_length=64)]
MetadataValue = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=16)]


class CreateBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request for a new batch."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Metadata | None = None


class BatchesQuery(msgspec.Struct, frozen=True):
    """The parameters of a list of batches."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED)] = 20


class Batches:
    """Batches by their ids: those that clients created, and those of the command line."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        """Return the addresses."""
        return [
            Route("/v1/batches", self.create, methods=["POST"]),
            Route("/v1/batches", self.list, methods=["GET"]),
            Route("/v1/batches/{id}", self.retrieve, methods=["GET"]),
            Route("/v1/batches/{id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Take a file as a batch; it is validated and queued afterwards."""
        asked = await read_json(request, CreateBatch)
        batch = _new_batch(asked)
        file = await self._state.reader.call(find_file, batch.file_id)
        if file is None:
            raise _no_file(asked.input_file_id)
        if file.part is not None:
            raise invalid("input_file_id: the file holds results", "input_file_id")
        await self._check_queue()
        number = await self._state.writer.call(add_batch, batch)
        self._state.created.set()
        return JsonResponse(batch_object(await self._get(BatchRef(True, number))))

    async def list(self, request: Request) -> Response:
        """List the batches, the latest first."""
        asked = read_query(request, BatchesQuery)
        after = None if asked.after is None else parse_batch_id(asked.after)
        found = None
        if asked.after is None or after is not None:
            found = await self._state.reader.call(list_api_batches, asked.limit, after)
        if found is None:
            raise invalid(f"after: no batch {asked.after!r}", "after")
        batches, more = found
        return JsonResponse(page_object([batch_object(batch) for batch in batches], more))

    async def retrieve(self, request: Request) -> Response:
        """Return a batch."""
        return JsonResponse(batch_object(await self._find(request)))

    async def cancel(self, request: Request) -> Response:
        """Cancel what of a batch has not ended; what has is kept."""
        batch = await self._find(request)
        if (status := batch_status(batch)) not in CANCELLABLE:
            raise invalid(f"Cannot cancel a batch with status '{status}'.", "id")
        if await self._state.writer.call(request_cancel, batch.ref):
            self._state.changed.set()
        return JsonResponse(batch_object(await self._get(batch.ref)))

    async def _find(self, request: Request) -> ApiBatch:
        text = request.path_params["id"]
        ref = parse_batch_id(text)
        found = None if ref is None else await self._state.reader.call(find_api_batch, ref)
        if found is None:
            raise missing(f"No batch found with id '{text}'.")
        return found

    async def _get(self, ref: BatchRef) -> ApiBatch:
        found = await self._state.reader.call(find_api_batch, ref)
        if found is None:
            raise missing("the batch was deleted meanwhile")
        return found

    async def _check_queue(self) -> None:
        """Raise `ApiError` if there is too much work already."""
        most = self._state.options.max_queued
        if await self._state.reader.call(queued_jobs, most) >= most:
            raise too_many(f"{most:,} jobs are queued; create the batch later", RETRY_SECONDS)
        if await self._state.reader.call(count_pending) >= MOST_PENDING:
            raise too_many(f"{MOST_PENDING} batches are being validated", RETRY_SECONDS)


def _new_batch(asked: CreateBatch) -> NewApiBatch:
    """Return what is stored of a new batch; raises `ApiError` for what cannot be."""
    if asked.endpoint != CHAT:
        raise invalid(f"endpoint: must be {CHAT}", "endpoint")
    window = parse_window(asked.completion_window)
    if window is None:
        raise invalid(
            "completion_window: write 24h, or another time as 90m or 7d", "completion_window"
        )
    file_number = parse_file_id(asked.input_file_id)
    if file_number is None:
        raise _no_file(asked.input_file_id)
    created = datetime.now(UTC)
    metadata = None if asked.metadata is None else msgspec.json.encode(asked.metadata).decode()
    return NewApiBatch(
        file_number,
        asked.endpoint,
        asked.completion_window,
        iso(created),
        iso(created + window),
        metadata,
    )


def _no_file(text: str) -> ApiError:
    return missing(f"No such File object: {text}", "input_file_id")
