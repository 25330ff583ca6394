"""What a scenario needs: the model, the references, the sizes and the rounds."""

import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mh_batch.engine.model.adapter_folder import find_adapter
from mh_batch.engine.model.folder import check_weights, find_local, read_config
from mh_batch.jobs.generation import Prompt
from mh_batch.jobs.settings import Sampling
from mh_batch.worker.bench.report.report import Figure, Series

from .rounds import Sample, Samples, Variants, interleave
from .workload import Sizes, prompt_of

if TYPE_CHECKING:
    from .subject import Subject

Found = Iterator[Figure | Series]

BARE = "bare loop"
MLX_LM = "mlx-lm"
RANDOM = "random"


class Bench:
    """Loads the model when a scenario first uses it: a drain loads it in its own process."""

    def __init__(self, model: str, sizes: Sizes, rounds: int) -> None:
        self.model = model
        self.sizes = sizes
        self.rounds = rounds
        self._read: tuple[Prompt, Any] | None = None

    @cached_property
    def subject(self) -> "Subject":
        """The engine with the model; raises `ModelNotLoaded`."""
        from .subject import Subject

        return Subject(self.model)

    def interleave(self, variants: Variants, *, warm: bool = True) -> Samples:
        """Measure variants round by round."""
        return interleave(variants, self.rounds, warm=warm)

    def prompt_of(self, tokens: int, *, system: bool = False) -> Prompt:
        """Return a prompt of about `tokens` tokens."""
        return prompt_of(tokens, self.subject.length, system)

    def reference(self, name: str, prompt: Prompt, **sampling: Any) -> Callable[[], Sample]:
        """Return a measurement of a reference's decode, over the prompt the engine renders."""
        from . import reference

        loop = {BARE: reference.bare, MLX_LM: reference.mlx_lm}[name]
        model, start = self.subject.model, self._start(prompt)
        return lambda: reference.decode_speed(loop, model, start, Sampling(**sampling))

    def forget(self) -> None:
        """Drop the cached prompts, so that only the model uses memory."""
        self._read = None
        self.subject.forget()
        gc.collect()

    def _start(self, prompt: Prompt) -> Any:
        """Return the start of a reference's decode, prefilled once per prompt."""
        from . import reference

        if self._read is None or self._read[0] != prompt:
            read = reference.read(self.subject.model, self.subject.tokens(prompt))
            self._read = (prompt, read)
        return self._read[1]


@contextmanager
def work_folder() -> Iterator[Path]:
    """Give a temporary folder on the disk of the working folder: waiting for it is measured.

    (The system's temporary folder is in memory on many machines.)
    """
    with tempfile.TemporaryDirectory(prefix=".mh-batch-bench-", dir=Path.cwd()) as folder:
        yield Path(folder)


def check_model(name: str) -> None:
    """Raise `ModelNotLoaded` for a broken config or broken weights, before hours of measuring.

    A model that is not on this machine is downloaded when it is first needed.
    """
    folder = None if name == RANDOM else find_local(name)
    find_adapter(name)
    if folder is not None:
        read_config(name, folder)
        check_weights(name, folder)


@contextmanager
def model_folder(name: str) -> Iterator[str]:
    """Give the name to load a model by: `random` becomes a temporary folder."""
    if name != RANDOM:
        yield name
        return
    from .random_model import write_random_model

    with tempfile.TemporaryDirectory(prefix="mh-batch-bench-") as folder:
        write_random_model(Path(folder))
        yield folder
