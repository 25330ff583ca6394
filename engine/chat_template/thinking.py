"""Reasoning between `<think>` and `</think>` at the beginning of a completion."""

THINK, END_THINK = "<think>", "</think>"


def split_thinking(text: str, *, opened: bool) -> tuple[str | None, str | None]:
    """Return reasoning and answer, each `None` if the completion did not come to it.

    `opened` is whether the prompt ends with `<think>`, so that reasoning begins at once.
    """
    begun = text.lstrip()
    if begun.startswith(THINK):
        begun = begun.removeprefix(THINK)
    elif not opened:
        return None, text
    thinking, end, answer = begun.partition(END_THINK)
    return thinking.strip(), answer.lstrip() if end else None
