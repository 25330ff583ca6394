"""Text as the tokenisers take it."""

from collections.abc import Callable
from typing import Any


def clean(text: str) -> str:
    """Return `text` with lone surrogates as U+FFFD: JSON can hold them, UTF-8 cannot."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return decoded JSON with `change` applied to every text in it, keys included."""
    match value:
        case str():
            return change(value)
        case dict():
            return {change(key): map_texts(item, change) for key, item in value.items()}
        case list() | tuple():
            return [map_texts(item, change) for item in value]
        case _:
            return value
