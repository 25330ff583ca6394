"""Warn at submit about lines that name models not found locally.

Files for OpenAI name OpenAI's models: their jobs would stay queued.
"""

from collections.abc import Iterable
from functools import lru_cache

from mh_batch.engine.model.adapter_folder import find_adapter
from mh_batch.engine.model.folder import find_local
from mh_batch.jobs.errors import ModelNotLoaded
from mh_batch.jobs.record import NewBatch
from mh_batch.store.queue.loading_rows import EncodedLine
from mh_batch.worker.text.format import format_count

SHOWN_NAMES = 5


class UnknownModels:
    """Counts the lines of a batch that name unknown models, and keeps the first of these names."""

    def __init__(self, batch: NewBatch) -> None:
        self._batch = batch
        self._lines = 0
        self._names: list[str] = []

    def take(self, lines: Iterable[EncodedLine]) -> None:
        """Check some lines."""
        if self._batch.override_model:
            return
        for line in lines:
            if line.model and line.model != self._batch.model and not is_resolvable(line.model):
                self._lines += 1
                if line.model not in self._names and len(self._names) <= SHOWN_NAMES:
                    self._names.append(line.model)

    @property
    def warning(self) -> str | None:
        """The warning; `None` if there is no such line."""
        if not self._lines:
            return None
        names = ", ".join(self._names[:SHOWN_NAMES])
        more = " and others" if len(self._names) > SHOWN_NAMES else ""
        verb = "names" if self._lines == 1 else "name"
        model = self._batch.model or "MODEL"
        return (
            f"{format_count(self._lines, 'line')} {verb} a model that was not found: "
            f"{names}{more}; "
            f"cancel the batch and submit with --again --override-model --model {model} to use "
            f"{model} for all"
        )


@lru_cache(maxsize=1000)
def is_resolvable(model: str) -> bool:
    """Return whether a name is demo, a folder, or has the form of a hub name.

    An adapter in the name must be there.
    """
    try:
        find_local(model)
        find_adapter(model)
    except (ModelNotLoaded, OSError, ValueError):
        return False
    return True
