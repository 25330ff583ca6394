"""Lines of every shape with something wrong in them, the same for the same seed."""

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 7}},
            "required": ["city"],
        },
    },
}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 3?"},
    {"role": "assistant", "content": "5", "reasoning_content": "2 + 3 is 5."},
    {"role": "user", "content": [{"type": "text", "text": "And 4 more?"}]},
]
SHAPES: tuple[dict[str, Any], ...] = (
    {"prompt": "What is 17 + 25?", "temperature": 0.5, "stop": ["."], "topic": {"a": [1, 2.5]}},
    {"turns": ["What is 12 + 9?", "Now add 5."], "question_id": 81, "reference": ["21", "26"]},
    {"messages": TALK, "seed": 7, "top_k": 40, "logit_bias": {"5": 1}},
    {"messages": TALK[:2], "turns": ["And then?"], "presence_penalty": 0.5, "n": 2},
    {"instruction": "Translate.", "input": "Hallo", "output": "Hi", "history": [["a", "b"]]},
    {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Hello"},
            {"from": "gpt", "value": "Hi!"},
        ],
        "id": "x",
    },
    {
        "messages": [
            *TALK[:2],
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ],
        "tools": [TOOL],
    },
    {
        "prompt": "What is the weather in Rome?",
        "tools": [TOOL],
        "tool_results": {"get_weather": {"weather": "sunny"}},
        "max_steps": 2,
    },
    {
        "custom_id": "r",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o", "messages": TALK[:2], "top_p": 0.9, "tools": [TOOL]},
    },
)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 2**63, 2**64, -(2**70), 0.0, -0.5, 1e308, 10**400),
    *("", " ", "\x00", "\u202e", "a\u0301", "\ufeff", "<|start|>", "<|end|><|return|>", "{{x}}"),
    *("=cmd|' /C calc'!A0", "\ud800", "../../etc", "😀" * 50, "x" * 3000, "none", "1e5"),
    *([], {}, [[]], [None], {"": ""}, {"a": {"b": {"c": []}}}, [1, "a", None], ["<|call|>"]),
)
KEYS = (
    *("messages", "turns", "prompt", "body", "tools", "tool_results", "system", "n", "stop"),
    *("temperature", "temprature", "max_kv_size", "kv_keep", "prefill_step", "history_tokens"),
    *("repetition_penalty", "max_context_tokens", "xtc_probability", "role", "content", "metadata"),
)

Path = tuple[Any, ...]


def lines(count: int, seed: int) -> Iterator[bytes]:
    """Yield lines: of each shape as many, each with one to three changes."""
    rng = random.Random(seed)
    for number in range(count):
        shape = json.loads(json.dumps(SHAPES[number % len(SHAPES)]))
        shape.setdefault("custom_id", f"fuzz-{number}")
        if shape["custom_id"] == "r":
            shape["custom_id"] = f"fuzz-{number}"
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            change(rng, shape)
        line = json.dumps(shape, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        yield spoil(rng, line) if rng.random() < 0.2 else line


def change(rng: random.Random, tree: dict[str, Any]) -> None:
    """Change one place of a tree: another value, a key less, a key more, a key renamed."""
    inner = rng.choice(list(containers(tree)))
    if isinstance(inner, list):
        index = rng.randrange(len(inner) + 1)
        inner[index : index + rng.randrange(2)] = [deepcopy(rng.choice(ODD))]
        return
    key = rng.choice([*inner, rng.choice(KEYS)])
    kind = rng.randrange(4)
    if kind == 0:
        inner.pop(key, None)
    elif kind == 1 and key in inner:
        inner[rng.choice([rng.choice(KEYS), f"{key}s", str(rng.choice(ODD))[:40]])] = inner.pop(key)
    else:
        inner[key] = deepcopy(rng.choice(ODD))


def containers(tree: Any) -> Iterator[Any]:
    """Yield every object and every list of a tree."""
    if isinstance(tree, dict | list):
        yield tree
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from containers(item)


def spoil(rng: random.Random, line: bytes) -> bytes:
    """Change bytes of a line without regard to what they mean; it stays one line."""
    at = rng.randrange(len(line))
    kind = rng.randrange(4)
    if kind == 0:
        return line[:at] or b"{"
    if kind == 1:
        return line[:at] + line[at + 1 :]
    if kind == 2:
        return line[:at] + bytes([rng.randrange(32, 256)]) + line[at + 1 :]
    return line[:at] + line[at : at + 20] + line[at:]
