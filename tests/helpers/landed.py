"""Submits a file to a new database and reads what landed of it."""

import json
from contextlib import chdir, closing
from pathlib import Path
from typing import Any, NamedTuple

from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import Settings
from mh_batch.store.connection import open_store
from mh_batch.worker.submission.submission import DEFAULT_RULES, Rules, submit_stream
from mh_batch.worker.submission.tables.options import RowOptions
from mh_batch.worker.submission.tables.source import open_source


class Landed(NamedTuple):
    """A job of the latest batch; `asked` are pairs of role and text, further turns at the end."""

    number: int
    custom_id: str
    asked: list[tuple[str, str]]
    metadata: dict[str, Any] | None
    n: int
    settings: dict[str, Any]

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return self.asked[-1][1]


def land(
    path: Path,
    pairs: tuple[str, ...] = (),
    prompt: str | None = None,
    template: Path | None = None,
    rules: Rules = DEFAULT_RULES,
    **others: Any,
) -> list[Landed]:
    """Submit a file with the options of the command; return the jobs of its batch."""
    options = RowOptions.parse(prompt, template, pairs, **others)
    # bad lines are written to the working folder
    with chdir(path.parent), closing(open_store(path.parent / "landed.db")) as db:
        with open_source(str(path), options) as source:
            batch = NewBatch("b", path.name, Settings())
            done = submit_stream(db, source, batch, rules)
        sql = "SELECT position, custom_id, request, metadata FROM jobs WHERE batch_id = ?"
        found = db.conn.execute(f"{sql} ORDER BY id", (done.batch_id,)).fetchall()
    return [_landed(*row) for row in found]


def _landed(number: int, custom_id: str, request: str, metadata: str | None) -> Landed:
    asked = json.loads(request)
    return Landed(
        number,
        custom_id,
        [(m["role"], m["content"]) for m in asked.get("messages", [])]
        + [("user", turn) for turn in asked.get("turns", [])],
        None if metadata is None else json.loads(metadata),
        asked.get("n", 1),
        asked.get("settings", {}),
    )
