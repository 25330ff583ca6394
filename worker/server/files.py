"""`/v1/files`."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Literal

import anyio
import anyio.to_thread
import msgspec
from anyio.lowlevel import checkpoint
from msgspec import Meta
from sqlite_utils import Database
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from mh_batch.store.server.batches import find_api_batch
from mh_batch.store.server.endings import has_expired
from mh_batch.store.server.files import (
    FileQuery,
    StoredFile,
    add_file,
    content_path,
    delete_file,
    find_file,
    list_files,
)

from .http.bodies import read_query
from .http.errors import ApiError, JsonResponse, invalid, missing
from .http.upload import Upload
from .objects import file_object, page_object, parse_file_id, parse_source_id, source_object
from .results import BEGIN, result_page
from .state import ServerState

MOST_LISTED = 10_000
OCTETS = "application/octet-stream"
PURPOSE = "batch"


class FilesQuery(msgspec.Struct, frozen=True):
    """The parameters of a list of files."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED)] = MOST_LISTED
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None


class Files:
    """Uploads and results, by their ids."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        """Return the addresses."""
        return [
            Route("/v1/files", self.upload, methods=["POST"]),
            Route("/v1/files", self.list, methods=["GET"]),
            Route("/v1/files/{id}", self.retrieve, methods=["GET"]),
            Route("/v1/files/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/files/{id}/content", self.content, methods=["GET"]),
        ]

    async def upload(self, request: Request) -> Response:
        """Store a file."""
        upload = Upload(self._state.uploads)
        try:
            await upload.receive(request)
            _check_fields(upload.fields)
            file = await self._state.writer.call(self._keep, upload)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(upload.discard)
        return JsonResponse(file_object(file))

    async def list(self, request: Request) -> Response:
        """List the files, the latest first."""
        asked = read_query(request, FilesQuery)
        after = None if asked.after is None else parse_file_id(asked.after)
        if asked.after is not None and after is None:
            raise invalid(f"after: no file {asked.after!r}", "after")
        query = FileQuery(asked.limit, after, asked.purpose, asked.order == "asc")
        files, more = await self._state.reader.call(list_files, query)
        return JsonResponse(page_object([file_object(file) for file in files], more))

    async def retrieve(self, request: Request) -> Response:
        """Return what is known of a file."""
        if (ref := parse_source_id(request.path_params["id"])) is not None:
            batch = await self._state.reader.call(find_api_batch, ref)
            if batch is not None:
                return JsonResponse(source_object(batch))
        return JsonResponse(file_object(await self._find(request)))

    async def delete(self, request: Request) -> Response:
        """Delete an upload, or the results of a batch as a file: its jobs stay."""
        file = await self._find(request)
        if not await self._state.writer.call(delete_file, file.id):
            raise ApiError(409, "a batch that is being validated needs the file", param="id")
        if file.part is None:
            path = content_path(self._state.uploads, file.id)
            await anyio.to_thread.run_sync(partial(path.unlink, missing_ok=True))
        return JsonResponse({"id": f"file-{file.id}", "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        """Stream the content of a file."""
        if parse_source_id(request.path_params["id"]) is not None:
            raise missing(
                "the content of a file that was submitted by the command line is not kept"
            )
        file = await self._find(request)
        if file.part is not None:
            return StreamingResponse(self._results(file), media_type=OCTETS)
        path = content_path(self._state.uploads, file.id)
        if not await anyio.Path(path).is_file():
            raise missing(f"the content of file-{file.id} is gone from {path.parent.name}")
        return FileResponse(path, media_type=OCTETS)

    async def _find(self, request: Request) -> StoredFile:
        text = request.path_params["id"]
        number = parse_file_id(text)
        found = None if number is None else await self._state.reader.call(find_file, number)
        if found is None:
            raise missing(f"No such File object: {text}")
        return found

    def _keep(self, db: Database, upload: Upload) -> StoredFile:
        folder = self._state.uploads
        name = upload.filename or ""
        return add_file(
            db, name, upload.bytes, lambda number: upload.move(content_path(folder, number))
        )

    async def _results(self, file: StoredFile) -> AsyncIterator[bytes]:
        """Yield results a page at a time: a slow client keeps nobody from the database."""
        assert file.batch_id is not None, "results have a batch"
        assert file.part is not None, "results are a part of it"
        reader = self._state.reader
        expired = await reader.call(has_expired, file.batch_id)
        position: int | None = BEGIN
        while position is not None:
            # the call below is always finished: here it ends for a client that has gone
            await checkpoint()
            page = await reader.call(
                result_page, file.batch_id, file.part, position, expired=expired
            )
            position = page.position
            if page.data:
                yield page.data


def _check_fields(fields: dict[str, str]) -> None:
    """Raise `ApiError` for an upload that is not for a batch, or that asks for more than that."""
    if fields.get("purpose") != PURPOSE:
        raise invalid("purpose: must be batch", "purpose")
    for name in fields.keys() - {"purpose"}:
        raise invalid(f"{name}: not supported; files stay until they are deleted", name)
