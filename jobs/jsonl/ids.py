"""The id that a file of others gives its lines: `custom_id` is taken from it where it is unique."""

import re
from collections.abc import Mapping

import msgspec

ID_KEYS = ("question_id", "id", "task_id")
MAX_ID_CHARS = 512

CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_decoder = msgspec.json.Decoder(str | int)


class IdKey:
    """Which key holds the ids of a file: the first of `ID_KEYS` that its first line has.

    A file whose first line has a `custom_id` has none.
    """

    def __init__(self) -> None:
        self._chosen = False
        self._key: str | None = None

    def of(self, fields: Mapping[str, msgspec.Raw]) -> str | None:
        """Return the id of a line as a text.

        `None` if it has a `custom_id`, no id, or one that is no text or integer.
        """
        named = "custom_id" in fields
        if not self._chosen:
            self._chosen = True
            self._key = None if named else next((key for key in ID_KEYS if key in fields), None)
        if named or self._key is None or self._key not in fields:
            return None
        try:
            own = str(_decoder.decode(fields[self._key]))
        except msgspec.DecodeError:
            return None
        return own if 0 < len(own) <= MAX_ID_CHARS and not CONTROL.search(own) else None
