"""What the tests of a drain share."""

import pytest
from anyio.abc import TaskGroup

from mh_batch.worker.draining.loop import Drain
from mh_batch.worker.runtime.stop import EndReason


@pytest.fixture
def drains(monkeypatch: pytest.MonkeyPatch) -> list[Drain]:
    """The drains that have begun, so that a test gets at them as the signal handler does."""
    begun: list[Drain] = []
    original = Drain.run

    async def run(self: Drain, tasks: TaskGroup) -> EndReason:
        begun.append(self)
        return await original(self, tasks)

    monkeypatch.setattr(Drain, "run", run)
    return begun
