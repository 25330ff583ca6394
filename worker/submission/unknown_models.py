"""Warn at submit about lines whose own model is hardly the one that was meant.

Files for OpenAI name OpenAI's models: their jobs would stay queued. Lines that name the batch's
model are answered without the batch's adapter.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from mh_batch.engine.model.adapter_folder import find_adapter
from mh_batch.engine.model.folder import find_local
from mh_batch.jobs.errors import ModelNotLoaded
from mh_batch.jobs.models.names import split_name
from mh_batch.jobs.record import NewBatch
from mh_batch.store.queue.loading_rows import EncodedLine
from mh_batch.worker.text.format import format_count

SHOWN_NAMES = 5


class UnknownModels:
    """Counts the lines of a batch that name unknown models, and keeps the first of these names."""

    def __init__(self, batch: NewBatch) -> None:
        self._batch = batch
        self._lines = 0
        self._without_adapter = 0
        self._names: list[str] = []

    def take(self, lines: Iterable[EncodedLine]) -> None:
        """Check some lines."""
        if self._batch.override_model:
            return
        for line in lines:
            if not line.model or line.model == self._batch.model:
                continue
            if self._batch.model is not None and is_without_adapter(line.model, self._batch.model):
                self._without_adapter += 1
            elif not is_resolvable(line.model):
                self._lines += 1
                if line.model not in self._names and len(self._names) <= SHOWN_NAMES:
                    self._names.append(line.model)

    @property
    def warning(self) -> str | None:
        """The warning; `None` if there is no such line."""
        return "; ".join(filter(None, (self._of_unknown(), self._of_unadapted()))) or None

    def _of_unknown(self) -> str | None:
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

    def _of_unadapted(self) -> str | None:
        if not self._without_adapter:
            return None
        verb = "names" if self._without_adapter == 1 else "name"
        return (
            f"{format_count(self._without_adapter, 'line')} {verb} the model without the adapter, "
            "and will be answered without it; cancel the batch and submit with --again "
            "--override-model to use it for all"
        )


@lru_cache(maxsize=1000)
def is_without_adapter(model: str, batch_model: str) -> bool:
    """Return whether a name is that of the batch's model, less an adapter that the batch has."""
    base, adapter = split_name(batch_model)
    if adapter is None or split_name(model).adapter is not None:
        return False
    try:
        folder = find_local(model)
        return model == base or (folder is not None and folder.resolve() == Path(base))
    except (ModelNotLoaded, OSError, ValueError):
        return False


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
