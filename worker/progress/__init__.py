"""What a drain shows while it runs, and its summary at the end."""

# before the modules here import sqlite-utils: this does so without pandas
import mh_batch.store  # noqa: F401
