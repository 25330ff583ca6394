"""The model process: what `python -m mh_batch.worker.model_process` starts."""

from .child.server import main

main()
