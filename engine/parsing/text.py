"""Text as the tokenisers take it."""

from typing import Any


def clean(text: str) -> str:
    """Return `text` with lone surrogates as U+FFFD: JSON can hold them, UTF-8 cannot."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def clean_tree(value: Any) -> Any:
    """Return decoded JSON with every text in it cleaned, keys included."""
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean_tree(key): clean_tree(item) for key, item in value.items()}
        case list() | tuple():
            return [clean_tree(item) for item in value]
        case _:
            return value
