"""MLX's allocator is left alone but for the two rules."""

from typing import Any

import mlx.core as mx
import pytest

from mh_batch.engine.model import memory
from mh_batch.jobs.settings import EngineOptions


def test_memory_is_released_only_past_the_high_water_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[int] = []
    monkeypatch.setattr(mx, "clear_cache", lambda: cleared.append(1))
    monkeypatch.setattr(mx, "get_cache_memory", lambda: 1000)
    assert not memory.release(EngineOptions(cache_high_water_bytes=1000))
    assert not cleared
    assert memory.release(EngineOptions(cache_high_water_bytes=999))
    assert len(cleared) == 1


def test_a_larger_machine_keeps_more_beginnings_unless_told_how_much() -> None:
    gibi = 1 << 30
    kept = [memory.prefix_cache_bytes(EngineOptions(), n * gibi) for n in (8, 16, 64, 512)]
    assert kept == [gibi // 4, gibi // 4, gibi, 4 * gibi]
    assert memory.prefix_cache_bytes(EngineOptions(prefix_cache_bytes=0), 64 * gibi) == 0
    assert memory.prefix_cache_bytes(EngineOptions(prefix_cache_bytes=5), 64 * gibi) == 5


def test_wiring_without_metal_or_wish_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(mx, "set_wired_limit", calls.append)
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    memory.wire(EngineOptions(wired_limit_bytes=1))
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    memory.wire(EngineOptions())
    assert calls == []
    memory.wire(EngineOptions(wired_limit_bytes=7))
    assert calls == [7]
