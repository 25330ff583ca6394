"""The schema as migrations; one that was released never changes."""

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
    """Store what a forced final began with, rounds of retries, requests to cancel, and adapters."""
    db.executescript(script("schema/continuations.sql"))


@migrations()
def m004_forgiven(db: Database) -> None:
    """Store which crashes no longer count, so that a job queued again starts without them."""
    db.executescript(script("schema/forgiven.sql"))


@migrations()
def m005_continued(db: Database) -> None:
    """Store which attempts continue one that was cut, and how much room the context had."""
    db.executescript(script("schema/continued.sql"))


@migrations()
def m006_rescued(db: Database) -> None:
    """Count jobs that are done with a forced final, and mark them in the results."""
    db.executescript(script("schema/rescued.sql"))


@migrations()
def m007_slots(db: Database) -> None:
    """Store how many conversations decode together, and what each attempt took of the machine."""
    db.executescript(script("schema/slots.sql"))


@migrations()
def m008_forms(db: Database) -> None:
    """Store answers in JSON parsed, why a check did not accept one, and which function checked."""
    db.executescript(script("schema/forms.sql"))


@migrations()
def m009_defaults(db: Database) -> None:
    """Store which settings were given, and what the model's own defaults made of the others."""
    db.executescript(script("schema/defaults.sql"))


@migrations()
def m010_archive(db: Database) -> None:
    """Store which batches are archived, and which settings a retry gave to a job."""
    db.executescript(script("schema/archive.sql"))


@migrations()
def m011_files(db: Database) -> None:
    """Store the files and batches of `mh-batch serve`, and how batches ended."""
    db.executescript(script("schema/files.sql"))


def names() -> tuple[str, ...]:
    """Return the names of all migrations of this version of the program, in order."""
    blank = Database(memory=True, execute_plugins=False)
    try:
        return tuple(step.name for step in migrations.pending(blank))
    finally:
        blank.close()
