"""What becomes of a name of another tool."""

from typing import Literal

import msgspec

Kind = Literal["text", "number", "bool", "list", "object", "null"]

_KINDS: dict[str, Kind] = {
    '"': "text",
    "[": "list",
    "{": "object",
    "t": "bool",
    "f": "bool",
    "n": "null",
}


class ForeignName(msgspec.Struct, frozen=True):
    """A name that is not ours, and the tools (`of`) that have it.

    One that `becomes` a key of ours is read as that. Of a `nested` one, the members are read as
    keys. A `kept` one changes no answer: it is metadata. Any other is refused with what to `use`
    instead, unless its value is one of `neutral` (JSON), which ask for nothing.

    Outside an OpenAI body a value of another kind than `kinds`, or a text that is none of `words`,
    is not that tool's parameter but a key of the user's own; without `kinds` every value is.
    """

    name: str
    of: str
    becomes: str | None = None
    nested: bool = False
    kept: bool = False
    use: str = ""
    neutral: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether any value but a neutral one is refused."""
        return self.becomes is None and not self.nested and not self.kept

    def is_neutral(self, raw: bytes) -> bool:
        """Whether a value, as JSON, asks for nothing."""
        text = raw.decode().replace(" ", "")
        return text == "null" or text in self.neutral

    def is_meant(self, raw: bytes) -> bool:
        """Whether a value, as JSON, is of a kind that the tool's parameter has."""
        kind = kind_of(raw)
        if not self.kinds or kind == "null":
            return True
        if kind == "text" and self.words:
            return raw.decode().strip('"') in self.words
        return kind in self.kinds

    @property
    def fate(self) -> str:
        """What becomes of it, in a few words of Markdown."""
        if self.becomes is not None:
            return f"is `{self.becomes}`"
        if self.nested:
            return "its members are read as keys"
        if self.kept:
            return "changes no answer: metadata"
        asks_nothing = " or ".join(f"`{value}`" for value in self.neutral)
        return f"{asks_nothing} asks for nothing; else refused" if asks_nothing else "refused"


def kind_of(raw: bytes) -> Kind:
    """Return the kind of a JSON value."""
    return _KINDS.get(raw.lstrip()[:1].decode("ascii", "replace"), "number")
