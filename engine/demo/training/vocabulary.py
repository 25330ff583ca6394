"""What the training knows about the 201,088 tokens: words, their parts, and which may be copied.

A token is seen as a *stem* (its letters, lower case) and a *form* (what precedes the letters, and
their case): ` Paris` and `Paris` share a stem. Every stem has a fixed random code, so a model
that has learned to copy a few thousand tokens can copy all of them, and change their form.
"""

import functools
import random
import re
from dataclasses import dataclass

import numpy as np
from openai_harmony import HarmonyEncoding, HarmonyEncodingName, load_harmony_encoding

VOCABULARY_SIZE = 201_088
FIRST_SPECIAL_TOKEN = 199_998
CODE_DIMS = 48

_WORD = re.compile(r"([ _.\"']?)([A-Za-z]+)$")
_DIGITS = re.compile(r"[0-9]{1,3}$")
_PREFIXES = ("", " ", "_", ".", '"', "'")
NO_FORM = 3 * len(_PREFIXES)
FORMS = NO_FORM + 1


@functools.cache
def harmony() -> HarmonyEncoding:
    """The gpt-oss encoding; `TIKTOKEN_ENCODINGS_BASE` must point at its vocabulary file."""
    return load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)


def encode(text: str) -> list[int]:
    """Token ids of a text as data: what looks like a control token is ordinary text.

    (Without `disallowed_special=()` openai-harmony builds a large pattern at every call.)
    """
    return harmony().encode(text, disallowed_special=())


@functools.cache
def token_texts() -> tuple[str, ...]:
    """The text of every ordinary token, by id; parts of characters read as U+FFFD."""
    encoding = harmony()
    return tuple(encoding.decode([token]) for token in range(FIRST_SPECIAL_TOKEN))


@dataclass(frozen=True, slots=True)
class TokenFeatures:
    """Arrays of shape (VOCABULARY_SIZE,): what the embedding rows are built from.

    `digits` has shape (VOCABULARY_SIZE, 4): hundreds, tens, units (10 means none) and a 1 where
    the token is a number.
    """

    stem: np.ndarray
    form: np.ndarray
    digits: np.ndarray
    stems: int


@functools.cache
def token_features() -> TokenFeatures:
    """Stem, form and digits of every token."""
    stem = np.zeros(VOCABULARY_SIZE, dtype=np.int64)
    form = np.full(VOCABULARY_SIZE, NO_FORM, dtype=np.int64)
    digits = np.full((VOCABULARY_SIZE, 4), 10, dtype=np.int64)
    digits[:, 3] = 0
    known: dict[str, int] = {}
    for token in range(VOCABULARY_SIZE):
        text = token_texts()[token] if token < FIRST_SPECIAL_TOKEN else ""
        key = f"#{token}"
        if _DIGITS.match(text):
            padded = text.rjust(3)
            digits[token, :3] = [10 if c == " " else int(c) for c in padded]
            digits[token, 3] = 1
        elif match := _WORD.match(text):
            prefix, letters = match.groups()
            key = letters.lower()
            case = 0 if letters.islower() else 1 if letters[1:].islower() else 2
            form[token] = 3 * _PREFIXES.index(prefix) + case
        stem[token] = known.setdefault(key, len(known))
    return TokenFeatures(stem, form, digits, len(known))


def stem_codes(seed: int) -> np.ndarray:
    """One random code of +1 and -1 a stem, shape (stems, CODE_DIMS), float32."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, size=(token_features().stems, CODE_DIMS))
    return (2 * bits - 1).astype(np.float32)


def held_out(key: str, share: int = 5) -> bool:
    """Tell, for ever the same, whether something is kept away from training (one in `share`)."""
    return random.Random(f"held-out:{key}").randrange(share) == 0


@functools.cache
def words(for_evaluation: bool) -> tuple[str, ...]:
    """Words of one token both with and without a space before them, most frequent first."""
    texts = token_texts()
    plain = {text for text in texts if text.isascii() and text.isalpha() and len(text) >= 3}
    found = dict.fromkeys(
        text[1:] for text in texts if text[:1] == " " and text[1:] in plain and text[2:].islower()
    )
    return tuple(word for word in found if held_out(word.lower()) == for_evaluation)


def copies_cleanly(word: str) -> bool:
    """Tell whether `word` is cut into the same pieces at the start of a text as after a space."""
    bare, spaced = encode(word), encode(" " + word)
    texts = token_texts()
    return spaced[1:] == bare[1:] and texts[spaced[0]] == " " + texts[bare[0]]
