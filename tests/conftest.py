"""What all tests share."""

import pytest
from hypothesis import settings

# a shared machine is slow now and then: how long an example takes is no verdict
settings.register_profile("mh-batch", deadline=None)
settings.load_profile("mh-batch")


@pytest.fixture
def anyio_backend() -> str:
    """The worker runs on asyncio."""
    return "asyncio"
