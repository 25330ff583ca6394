"""`mh-batch doctor`: checks of everything that a drain needs."""

# before the modules here import sqlite-utils: this does so without pandas
import mh_batch.store  # noqa: F401
