"""Escape the characters that control a terminal or that are invisible.

The only place that defines these characters.
"""

import re

# control characters, unusual line ends, marks of the writing direction, and the invisible
# characters (Default_Ignorable_Code_Point of Unicode); but not the joiners and the variation
# selectors, which ordinary text has, in emoji and in many scripts
_HIDDEN = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"
    r"\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_ANY = re.compile(f"[{_HIDDEN}]")


def escape_controls(text: str) -> str:
    r"""Return the text with each such character escaped, such as `\x1b` or `\u202e`.

    Line breaks and tabs stay.
    """
    return _ANY.sub(_escape, text)


def escape_json_controls(text: str) -> str:
    r"""Return equivalent JSON with each such character escaped, such as `\u202e`."""
    return _ANY.sub(_escape_json, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
