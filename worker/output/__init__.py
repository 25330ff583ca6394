"""The content of the database as files, tables and pages."""

# before the modules here import sqlite-utils: this does so without pandas
import mh_batch.store  # noqa: F401
