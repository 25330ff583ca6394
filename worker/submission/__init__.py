"""From files of conversations to batches in the queue."""

# before the modules here import sqlite-utils: this does so without pandas
import mh_batch.store  # noqa: F401
