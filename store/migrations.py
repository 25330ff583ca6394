"""The schema, one step a version. A step that was released never changes."""

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from .sql import script

migrations = Migrations("mh_batch")


@migrations()
def m001_tables(db: Database) -> None:
    """Create every table and index."""
    db.executescript(script("schema/tables.sql"))


@migrations()
def m002_views(db: Database) -> None:
    """Create the views that people query."""
    db.executescript(script("schema/views.sql"))


@migrations()
def m003_continuations(db: Database) -> None:
    """Keep what rescues began with, rounds of retries, requests to cancel, and adapters."""
    db.executescript(script("schema/continuations.sql"))


@migrations()
def m004_forgiven(db: Database) -> None:
    """Keep which deaths of the model count no more, so that a job put back starts fresh."""
    db.executescript(script("schema/forgiven.sql"))


@migrations()
def m005_continued(db: Database) -> None:
    """Keep which attempts go on where one was cut, and how much room the context had for that."""
    db.executescript(script("schema/continued.sql"))


@migrations()
def m006_rescued(db: Database) -> None:
    """Count jobs that are done with a rescued answer, and have the results say which they are."""
    db.executescript(script("schema/rescued.sql"))


def names() -> tuple[str, ...]:
    """Return the names of all steps that this version of the program knows, in order."""
    blank = Database(memory=True, execute_plugins=False)
    try:
        return tuple(step.name for step in migrations.pending(blank))
    finally:
        blank.close()
