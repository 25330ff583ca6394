"""A checking process: what `python -m mh_batch.worker.acceptance` starts."""

from .child import main

main()
