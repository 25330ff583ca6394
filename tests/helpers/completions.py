"""Random completions that are rich in structure: proper messages, with parts lost, added, moved."""

import random

from helpers.spelled import encode

CONTROLS = [
    encode(name)
    for name in (
        *("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|return|>"),
        *("<|constrain|>", "<|endoftext|>", "<|reserved_200017|>"),
    )
]
WORDS = [
    encode(word)
    for word in (
        *("assistant", "user", "analysis", "commentary", "final", " to=functions.f", "json"),
        *('{"a": 1}', " hello", "two\n\nlines ", "é", "😀", " <b>"),
    )
]
HEADERS = [
    encode(f"<|channel|>{header}")
    for header in (
        *("analysis", "analysis", "analysis foo", "final", "commentary"),
        "commentary to=functions.f <|constrain|>json",
    )
]
MESSAGE, END, NEXT = encode("<|message|>"), encode("<|end|>"), encode("<|start|>assistant")
ANSWER = [*HEADERS[3:4], MESSAGE, encode(" hello"), encode("<|return|>")]
MOST_CHANGES = 3


def completion(rng: random.Random) -> list[int]:
    """Return token ids: up to three messages, the last of them an answer, changed up to thrice."""
    parts: list[list[int]] = []
    for _ in range(rng.randint(0, 2)):
        words = [rng.choice(WORDS) for _ in range(rng.randint(0, 3))]
        parts += [rng.choice(HEADERS), MESSAGE, *words, END, NEXT]
    parts += ANSWER
    for _ in range(rng.randint(0, MOST_CHANGES)):
        _change(parts, rng)
    return [token for part in parts for token in part]


def _change(parts: list[list[int]], rng: random.Random) -> None:
    """Lose a part, add a control token, a word or any id at all, or put two parts elsewhere."""
    at = rng.randrange(len(parts) + 1)
    match rng.choice(("lose", "lose", "control", "control", "word", "id", "move")):
        case "lose":
            del parts[at : at + 1]
        case "control":
            parts.insert(at, rng.choice(CONTROLS))
        case "word":
            parts.insert(at, rng.choice(WORDS))
        case "id":
            parts.insert(at, [rng.randrange(201_200)])
        case "move":
            parts[:] = parts[at:] + parts[:at]
