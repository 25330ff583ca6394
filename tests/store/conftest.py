"""A database of its own for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_utils import Database

from mh_batch.store.connection import open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mh-batch.db"


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    database = open_store(path)
    yield database
    database.close()
