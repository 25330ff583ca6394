"""Lines that name a model of their own which is none here, told in the evening.

Files for OpenAI name models of OpenAI: their jobs would stay queued all night.
"""

from collections.abc import Iterable
from functools import lru_cache

from mh_batch.engine.model.folder import find_local
from mh_batch.jobs.errors import ModelNotLoaded
from mh_batch.jobs.record import NewBatch
from mh_batch.store.queue.submit import EncodedLine
from mh_batch.worker.text.format import format_count

SHOWN_NAMES = 5


class UnknownModels:
    """Takes the lines of a batch and remembers the first names of models that do not exist."""

    def __init__(self, batch: NewBatch) -> None:
        self._batch = batch
        self._lines = 0
        self._names: list[str] = []

    def take(self, lines: Iterable[EncodedLine]) -> None:
        """Look at some lines."""
        if self._batch.override_model:
            return
        for line in lines:
            if line.model and line.model != self._batch.model and not is_resolvable(line.model):
                self._lines += 1
                if line.model not in self._names and len(self._names) <= SHOWN_NAMES:
                    self._names.append(line.model)

    @property
    def warning(self) -> str | None:
        """What to tell about them; `None` if there is no such line."""
        if not self._lines:
            return None
        names = ", ".join(self._names[:SHOWN_NAMES])
        more = " and others" if len(self._names) > SHOWN_NAMES else ""
        verb = "names" if self._lines == 1 else "name"
        model = self._batch.model or "MODEL"
        return (
            f"{format_count(self._lines, 'line')} {verb} a model that is no folder here: "
            f"{names}{more}; "
            f"cancel the batch and submit with --again --override-model --model {model} to use "
            f"{model} for all"
        )


@lru_cache(maxsize=1000)
def is_resolvable(model: str) -> bool:
    """Tell whether a name is demo, a folder, or like a hub name."""
    try:
        find_local(model)
    except (ModelNotLoaded, OSError, ValueError):
        return False
    return True
