"""How a family writes calls, as rules of a Lark grammar."""

from collections.abc import Callable, Sequence
from typing import Any

from mh_batch.engine.constraint.forms import quoted
from mh_batch.engine.mlx_lm_internals import inner_tokenizer

Spell = Callable[[str], str]
"""Returns a text as it stands in a rule: added tokens by their ids, the rest between quotes."""


class BoundCall:
    """A function that may be called, and what its arguments are called in the rules."""

    def __init__(self, name: str, body: str) -> None:
        self.name = name
        self.body = body


def speller(tokenizer: Any) -> Spell:
    """Return what spells texts for the rules of a Hugging Face tokeniser's model."""
    ids = {str(token): token_id for token_id, token in tokenizer.added_tokens_decoder.items()}
    longest_first = sorted(ids, key=len, reverse=True)

    def spell(text: str) -> str:
        parts: list[str] = []
        plain = ""
        while text:
            added = next((name for name in longest_first if text.startswith(name)), None)
            if added is None:
                plain, text = plain + text[0], text[1:]
                continue
            parts += [quoted(plain)] if plain else []
            parts.append(f"<[{ids[added]}]>")
            plain, text = "", text.removeprefix(added)
        return " ".join([*parts, *([quoted(plain)] if plain else [])])

    return spell


def call_rules(wrapper: Any, calls: Sequence[BoundCall]) -> list[str] | None:
    """Return rules from `calls` on, for one call or several; `None` if the notation is not known.

    The rules refer to `SPACE`, white space or none.
    """
    spell = speller(inner_tokenizer(wrapper))
    start, end = spell(wrapper.tool_call_start), spell(wrapper.tool_call_end)
    match notation_name(wrapper):
        case "json_tools":
            shape = f"{start} SPACE call SPACE {end}"
            return [f"calls: {shape} (SPACE {shape})*", _either(_json_call, calls)]
        case "mistral" if "[ARGS]" in inner_tokenizer(wrapper).get_vocab():
            marker = spell("[ARGS]")
            shapes = [f"{start} {quoted(c.name)} {marker} SPACE @{c.body}" for c in calls]
            return ["calls: call+", f"call: {' | '.join(shapes)}"]
        case "mistral":
            rest = '(SPACE "," SPACE call)* SPACE "]"'
            return [f'calls: {start} SPACE "[" SPACE call {rest}', _either(_json_call, calls)]
        case "kimi_k2":
            begin, arguments, over = (
                spell(f"<|tool_call_{name}|>") for name in ("begin", "argument_begin", "end")
            )
            shapes = [f"{quoted(f'functions.{c.name}:')} NUMBER" for c in calls]
            bodies = [
                f"{begin} {shape} {arguments} @{c.body} {over}"
                for shape, c in zip(shapes, calls, strict=True)
            ]
            return [
                f"calls: {start} call+ {end}",
                f"call: {' | '.join(bodies)}",
                "NUMBER: /[0-9]{1,3}/",
            ]
    return None


def notation_name(wrapper: Any) -> str:
    """Return mlx-lm's name of the notation of calls."""
    return str(wrapper.tool_parser.__module__.rpartition(".")[2])


def _either(shape: Callable[[BoundCall], str], calls: Sequence[BoundCall]) -> str:
    return "call: " + "\n    | ".join(shape(call) for call in calls)


def _json_call(call: BoundCall) -> str:
    """Return a call as a JSON object of its name and its arguments."""
    tokens = ("{", '"name"', ":", quoted(call.name), ",", '"arguments"', ":")
    written = " SPACE ".join(quoted(token) for token in tokens)
    return f'{written} SPACE @{call.body} SPACE "}}"'
