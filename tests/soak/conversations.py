"""Short conversations of every kind: what a night of the soak is made of."""

from typing import Any

from helpers.weather import WEATHER

CITIES = ("Paris", "Rome", "Oslo", "Lima", "Cairo")


def conversations(count: int) -> list[dict[str, Any]]:
    """Return `count` lines; every eight of them have one of each kind."""
    return [{"custom_id": f"soak-{n}", "max_attempts": 2, **_kind(n)} for n in range(count)]


def _kind(n: int) -> dict[str, Any]:
    kinds: tuple[dict[str, Any], ...] = (
        {"prompt": f"What is {n % 80 + 10} + {n % 17 + 3}?"},
        {"turns": [f"What is {n % 50 + 10} + 9?", "Now add 5."]},
        {
            "prompt": f"What is the weather in {CITIES[n % len(CITIES)]}?",
            "tools": [WEATHER],
            "tool_results": {"get_weather": {"weather": "sunny"}},
        },
        {"prompt": f"What is {n % 30 + 40} + 2?", "n": 2, "temperature": 1.0},
        {"prompt": "Repeat the word banana for ever.", "max_tokens": 96},
        {"prompt": "Think for a long time about rivers.", "max_tokens": 40, "temperature": 0},
        {"prompt": f"Count from {n} to 300.", "max_tokens": 40},
        {"prompt": "Hello", "system": "You are a poet.", "temperature": 1.2, "max_tokens": 48},
    )
    return kinds[n % len(kinds)]
