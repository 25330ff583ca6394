"""What all parts of a drain share."""

from typing import NamedTuple

from mh_batch.worker.model_process.supervisor import ModelSupervisor
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.runtime.store_thread import StoreThread

from .reporter import Display


class DrainContext(NamedTuple):
    """The options of a drain, its row in `runs`, and what it works with."""

    options: DrainOptions
    run_id: int
    store: StoreThread
    supervisor: ModelSupervisor
    display: Display
