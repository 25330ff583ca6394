"""The Python interface, for notebooks and scripts: what `import mh_batch` offers.

Nothing is read from `mh-batch.toml` or the environment: what a call leaves out has its built-in
default. Errors are those of `mh_batch.jobs.errors`.
"""

from mh_batch.jobs.record import FinishedJob as Job

from .batches import cancel, results, retry, status
from .draining import Options, Summary, adrain, drain
from .progress import Progress
from .submission import submit

__all__ = [
    "Job",
    "Options",
    "Progress",
    "Summary",
    "adrain",
    "cancel",
    "drain",
    "results",
    "retry",
    "status",
    "submit",
]
