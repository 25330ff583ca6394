"""Starts datasette on the database, in place of this process."""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import msgspec

from mh_batch.jobs.errors import InputError
from mh_batch.store.connection import open_reader
from mh_batch.worker.runtime.child import PYTHON

from .metadata import metadata

# datasette puts the path into a URI without quoting it
_UNQUOTED = frozenset("?#%")
_SETTINGS = {
    # the file lacks rows that are still in the write-ahead log
    "allow_download": "off",
    "sql_time_limit_ms": "60000",
    "max_returned_rows": "5000",
    "truncate_cells_html": "600",
    # those of the metadata are enough, and others cost a scan each
    "suggest_facets": "off",
}
_TEMPLATES = Path(__file__).with_name("templates")


def explore(path: Path, port: int) -> None:
    """Replace this process by datasette on the database at `path`, for this machine only.

    Raises `InputError` if datasette is not installed or cannot open such a path, `StoreUnusable`
    if there is no database.
    """
    if importlib.util.find_spec("datasette") is None:
        raise InputError("explore needs datasette: pip install 'mh-batch[explore]'")
    real = path.resolve()
    if found := sorted(_UNQUOTED & set(str(real))):
        raise InputError(
            f"{real}: datasette cannot open a path with {' '.join(found)} in it; "
            "name the database through a link without them"
        )
    open_reader(path).close()
    with tempfile.TemporaryFile() as metadata_file:
        metadata_file.write(msgspec.json.encode(metadata(real.stem)))
        metadata_file.seek(0)
        # exec, not a child: signals reach it, and nothing is left behind when it ends
        os.dup2(metadata_file.fileno(), 0)
        sys.stdout.flush()
        argv = command(real, port)
        os.execv(argv[0], argv)


def command(path: Path, port: int) -> list[str]:
    """Return the command that serves `path` and reads its metadata from standard input.

    Without `--immutable`: datasette then opens the file read-only (`mode=ro`) and sees what a
    worker commits.
    """
    settings = [part for name, value in _SETTINGS.items() for part in ("--setting", name, value)]
    serve = [*PYTHON, "-m", "mh_batch.worker.output.explore.server", "serve"]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    pages = ["--metadata", "-", "--template-dir", str(_TEMPLATES)]
    return [*serve, str(path), *pages, *where, *settings]
