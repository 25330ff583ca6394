"""What the tests of the soak share: a fork server, files of conversations, a night undisturbed."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.drained import Site
from helpers.forks import fork_server
from soak.conversations import conversations
from soak.night import SCALE, Night, Server, run_night

JOBS, FILES = 48 * SCALE, 12 * SCALE
SHORT_JOBS = 8


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A fork server that lives as long as the tests do."""
    # a socket's path may not be long, and pytest's folders are
    with (
        tempfile.TemporaryDirectory() as folder,
        fork_server(Path(folder), "soak.roles") as path,
    ):
        yield Server(path)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of a long night."""
    return write(tmp_path_factory.mktemp("sources"), JOBS, FILES)


@pytest.fixture(scope="session")
def short_sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of a short night."""
    return write(tmp_path_factory.mktemp("short"), SHORT_JOBS, 2)


@pytest.fixture(scope="session", params=[1, 4], ids="parallel={}".format)
def parallel(request: pytest.FixtureRequest) -> int:
    """How many conversations are with the model at once."""
    return int(request.param)


@pytest.fixture(scope="session")
def reference(
    server: Server, sources: list[Path], parallel: int, tmp_path_factory: pytest.TempPathFactory
) -> Night:
    """The long night, with nothing killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return run_night(server, folder, sources, parallel=parallel)


@pytest.fixture(scope="session")
def short_reference(
    server: Server, short_sources: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Night:
    """The short night, with nothing killed."""
    return run_night(server, tmp_path_factory.mktemp("undisturbed"), short_sources)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A folder with an empty queue and a scripted model."""
    folder = tmp_path / "night"
    folder.mkdir()
    return Site(folder)


def write(folder: Path, jobs: int, files: int) -> list[Path]:
    """Write conversations into some files, as many in each."""
    lines = conversations(jobs)
    paths = []
    for number in range(files):
        paths.append(folder / f"night-{number}.jsonl")
        part = lines[number * jobs // files : (number + 1) * jobs // files]
        paths[-1].write_text("".join(json.dumps(line) + "\n" for line in part))
    return paths
