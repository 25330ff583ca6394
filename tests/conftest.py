"""What all tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

# a shared machine is slow now and then: how long an example takes is no verdict
settings.register_profile("mh-batch", deadline=None)
settings.load_profile("mh-batch")


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
