"""What datasette is told about the database: the cookbook, facets, names of rows, hidden tables."""

from typing import Any

from mh_batch.store.reports.query import job_queries, recipes

_ABOUT = (
    "Read only, also while a worker writes. The queries below are the cookbook; "
    "each is a start for one of your own."
)
TABLES: dict[str, dict[str, Any]] = {
    "batches": {"description": "One row for each submitted file.", "label_column": "name"},
    "jobs": {
        "description": "One row for each line: a conversation to complete.",
        "label_column": "custom_id",
        "facets": ["status", "batch_id"],
    },
    "turns": {
        "description": "The answers that were kept, one row for each turn of a job.",
        "facets": ["finish_reason", "rescued"],
    },
    "attempts": {
        "description": "Every generation, also those that were refused.",
        "facets": ["verdict", "retry_reason", "stop_reason"],
    },
    "channels": {"description": "The parts of every answer.", "facets": ["channel"]},
    "parses": {"description": "How each answer was read.", "facets": ["rung", "well_formed"]},
    "timings": {"description": "Seconds, tokens and memory of each attempt."},
    "crashes": {"description": "Deaths of the model process.", "facets": ["phase"]},
    "retry_settings": {"description": "Settings that a retry gave to a job."},
    "runs": {"description": "One row for each start of the worker."},
    "files": {"description": "Uploads and results of `mh-batch serve`.", "facets": ["purpose"]},
    "results": {"description": "The finished jobs with their last answers."},
}
HIDDEN = (
    "_sqlite_migrations",
    "batch_models",
    "selftests",
    "deletions",
    "api_batches",
    "batch_ends",
)
"""What the program keeps for itself; `?_show_hidden=1` lists it."""


def metadata(name: str) -> dict[str, Any]:
    """Return datasette's metadata for the database `name`."""
    queries: dict[str, dict[str, Any]] = {
        e.name: {"title": e.about, "sql": e.sql} for e in recipes().values()
    }
    for entry in job_queries().values():
        queries[entry.name] = {"title": entry.about, "sql": entry.sql, "hide_sql": True}
    tables = TABLES | {table: {"hidden": True} for table in HIDDEN}
    about = {"description": _ABOUT, "queries": queries, "tables": tables}
    return {"title": "mh-batch", "cookbook": list(recipes()), "databases": {name: about}}
