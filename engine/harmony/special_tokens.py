"""The control tokens of Harmony, by id: whether a token is one never depends on its text."""

from collections.abc import Sequence

from openai_harmony import HarmonyError

from mh_batch.engine.parsing.message import CLOSERS

from .vocabulary import harmony_encoding

CONSTRAIN = 200_003
CHANNEL = 200_005
START = 200_006
MESSAGE = 200_008

CONTROLS = CLOSERS | {CONSTRAIN, CHANNEL, START, MESSAGE}

# ids below are text, from here on `<|startoftext|>`, `<|endoftext|>` and the control tokens
FIRST_CONTROL = 199_998
LAST_KNOWN = 201_088
VOCABULARY_SIZE = 201_088


def is_text(token: int) -> bool:
    """Whether `token` stands for bytes of text."""
    return 0 <= token < FIRST_CONTROL


def texts(tokens: Sequence[int]) -> list[int]:
    """Return the tokens that stand for text."""
    return [token for token in tokens if 0 <= token < FIRST_CONTROL]


def spell(tokens: Sequence[int]) -> str:
    """Return the text of `tokens`, control tokens spelled out.

    Bytes that are no UTF-8, and ids that the vocabulary does not have, become U+FFFD.
    """
    encoding = harmony_encoding()
    if all(0 <= token <= LAST_KNOWN for token in tokens):
        return str(encoding.decode(tokens))
    unknown = encoding.encode("\ufffd")
    known = ([token] if 0 <= token <= LAST_KNOWN else unknown for token in tokens)
    return str(encoding.decode([token for part in known for token in part]))


def is_utf8(tokens: Sequence[int]) -> bool:
    """Whether text tokens decode to whole characters."""
    try:
        harmony_encoding().decode_utf8(tokens)
    except HarmonyError:
        return False
    return True
