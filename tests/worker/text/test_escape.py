"""What is shown cannot steer a terminal, hide from the eye, or read as another text."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mh_batch.worker.text.escape import escape_controls, escape_json_controls

# of the format characters these belong to ordinary writing: joiners of emoji, Persian and Hindi,
# and the marks that are drawn before or around Arabic, Kaithi and Egyptian numbers and signs
JOINERS = "\u200c\u200d"
DRAWN = {
    *(*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD),
    *range(0x13430, 0x13440),
}
text = st.text(st.characters(exclude_categories=["Cs"]))
hidden = st.sampled_from(
    "\x1b\x9b\x7f\xad\u061c\u200b\u200e\u200f\u2028\u2029\u202e\u2066\u2069\ufeff"
    "\U000e0001\U000e0041\U000e007f\U000e0101"
)


@pytest.mark.parametrize(
    ("shown", "spelled"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b31m\x00\x7f\r", "\\x9b31m\\x00\\x7f\\x0d"),
        ("\u200e\u200f\u061c", "\\u200e\\u200f\\u061c"),
        ("\u202a\u202b\u202c\u202d\u202e", "\\u202a\\u202b\\u202c\\u202d\\u202e"),
        ("\u2066\u2067\u2068\u2069", "\\u2066\\u2067\\u2068\\u2069"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\U000e0000\U000e0041\U000e007f", "\\U000e0000\\U000e0041\\U000e007f"),
        ("\U000e0101", "\\U000e0101"),
        ("zero\u200bwidth\u2060\ufeff\u180e\xad", "zero\\u200bwidth\\u2060\\ufeff\\u180e\\xad"),
    ],
)
def test_what_steers_or_hides_is_spelled_out(shown: str, spelled: str) -> None:
    assert escape_controls(shown) == spelled


@pytest.mark.parametrize(
    "plain",
    [
        "line\n\ttab",
        "Größe, façade, 東京, Ελληνικά",
        "👩\u200d👩\u200d👧 ❤\ufe0f",
        "\u0645\u06cc\u200c\u062e",
        "\u0915\u094d\u200d\u0937",
        "\u0602\u06dd",
    ],
)
def test_ordinary_text_of_any_script_is_as_it_was(plain: str) -> None:
    assert escape_controls(plain) == plain
    assert escape_json_controls(json.dumps(plain, ensure_ascii=False)) == json.dumps(
        plain, ensure_ascii=False
    )


def test_no_control_line_end_or_format_character_of_unicode_is_passed_on() -> None:
    for code in range(0x110000):
        character = chr(code)
        category = unicodedata.category(character)
        passed = escape_controls(character) == character
        if category in ("Cc", "Zl", "Zp"):
            assert passed == (character in "\n\t"), hex(code)
        elif category == "Cf":
            assert passed == (character in JOINERS or code in DRAWN), hex(code)


@given(st.recursive(text | hidden | st.integers(), st.lists, max_leaves=8))
def test_json_with_its_characters_escaped_says_the_same(value: object) -> None:
    shown = escape_json_controls(json.dumps(value, ensure_ascii=False))
    assert json.loads(shown) == value
    assert escape_controls(shown) == shown
