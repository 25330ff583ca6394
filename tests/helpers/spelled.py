"""Harmony tokens for the tests: from text with control tokens spelled out, and any at all."""

from hypothesis import strategies as st

from mh_batch.engine.harmony.vocabulary import harmony_encoding


def encode(text: str) -> list[int]:
    """The ids of a text in which control tokens are spelled out."""
    return list(harmony_encoding().encode(text, allowed_special="all"))


PIECES = st.sampled_from(
    ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|return|>",
     "<|constrain|>", "<|endoftext|>", "<|reserved_200017|>", "assistant", "user", "analysis",
     "commentary", "final", " to=", "functions.f", "json", '{"a": 1}', " hello", "é",
     # whole headers, so that what is nearly right is drawn as well
     "<|channel|>analysis<|message|>", "<|channel|>final<|message|>", "<|end|><|start|>assistant",
     "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"]
).map(encode)  # fmt: skip
IDS = st.sampled_from([0, 128, 199_997, 201_088, 300_000, 2**32 - 1, 2**40, -1]) | st.integers(
    0, 201_200
)
TOKENS = st.lists(PIECES | IDS.map(lambda i: [i]), max_size=24).map(
    lambda parts: [token for part in parts for token in part]
)
"""Token ids in any order, some of which no vocabulary has."""
