"""Small words of messages."""


def counted(number: int, noun: str) -> str:
    """Return `1 attempt`, `2 attempts`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
