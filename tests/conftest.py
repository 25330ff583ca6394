"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import settings

from helpers.forks import Forks
from helpers.output_layer import compute_in_floats

# a shared machine is slow now and then: how long an example takes is no verdict
settings.register_profile("mh-batch", deadline=None)
settings.load_profile("mh-batch")

compute_in_floats()


@pytest.fixture
def anyio_backend() -> str:
    """The worker runs on asyncio."""
    return "asyncio"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that must not be written to."""
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Starts processes without their imports; its own process starts with the first of them."""
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="session", autouse=True)
def model_processes_are_forked(forks: Forks) -> Iterator[None]:
    """Save each model process that the tests' own process starts its imports."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(anyio, "open_process", forks.replaces(anyio.open_process))
        yield
