"""One message of a completion, as the parsers of all models return it: in the terms of Harmony."""

import msgspec

CHANNELS = ("analysis", "commentary", "final")

RETURN = 200_002
END = 200_007
CALL = 200_012

CLOSERS = frozenset({END, RETURN, CALL})
"""The token ids that close a message; parsers of other models say with these how theirs ended."""

STOPS = frozenset({RETURN, CALL})
"""Those that end the completion as well."""


class ParsedMessage(msgspec.Struct, frozen=True):
    """One message of a completion as a parser understood it.

    `closed_by` is the id of the token that closed it, `None` if the completion was cut or another
    message began. `defects` are the problems that the parser found and could not mend, as codes.
    """

    role: str
    channel: str | None
    recipient: str | None
    content_type: str | None
    text: str
    closed_by: int | None
    defects: tuple[str, ...] = ()
