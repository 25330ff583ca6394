"""What the parts of the server share."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mh_batch.jobs.settings import MAX_LINE_MIB, Settings
from mh_batch.store.server.files import uploads_folder
from mh_batch.worker.runtime.stop import AutoResetEvent
from mh_batch.worker.runtime.store_thread import StoreThread

MOST_QUEUED = 1_000_000
"""With how many queued jobs no further batch is taken."""


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a server.

    `model` is that of jobs that name none, `None` if the worker has it. Lines may name it, `demo`
    and what batches have run on. `settings`, of which somebody set those in `given`, and
    `max_line_mib` are for the batches of clients. `api_key` is `None` where none is needed.
    """

    db: Path
    host: str
    port: int
    model: str | None = None
    api_key: str | None = None
    settings: Settings = Settings()
    given: tuple[str, ...] = ()
    max_line_mib: int = MAX_LINE_MIB
    max_queued: int = MOST_QUEUED


@dataclass
class WorkerState:
    """What is known of the worker that the server started; `fault` is why it ended last."""

    running: bool = False
    fault: str | None = None


@dataclass
class ServerState:
    """The stores of the server, and how its parts wake each other.

    `writer` makes short changes, `reader` reads. `created` is set when there is a batch to submit,
    `changed` when one is to be cancelled. `worker` is `None` where the server starts none.
    """

    options: ServerOptions
    writer: StoreThread
    reader: StoreThread
    worker: WorkerState | None = None
    created: AutoResetEvent = field(default_factory=AutoResetEvent)
    changed: AutoResetEvent = field(default_factory=AutoResetEvent)

    @property
    def uploads(self) -> Path:
        """The folder of the uploads."""
        return uploads_folder(self.options.db)

    async def models(self) -> list[str]:
        """Return the models that lines may name: a name never makes the worker look elsewhere."""
        from mh_batch.store.server.batches import known_models

        known = await self.reader.call(known_models)
        named = [self.options.model] if self.options.model is not None else []
        return list(dict.fromkeys([*named, "demo", *known]))
