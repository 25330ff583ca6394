"""Text as it can be shown: control characters are seen, and steer nothing."""

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
# what turns the direction of writing, and could make a text read as another one
_TURNS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SPELLED = {code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in "\n\t"} | {
    code: f"\\u{code:04x}" for code in _TURNS
}


def visible(text: str) -> str:
    r"""Return the text with each control character spelled out, such as `\x1b`."""
    return text.translate(_SPELLED)
