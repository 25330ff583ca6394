"""How a family writes calls, as rules of a Lark grammar."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mh_batch.engine.constraint.bounds import Call
from mh_batch.engine.constraint.forms import SubGrammar, quoted
from mh_batch.engine.mlx_lm_internals import inner_tokenizer

from .listed import GEMMAS, ListedCall, bare_call, bare_values, pythonic_call
from .spelling import Spell, speller
from .tagged import TAGS, Tags, tagged_call

# as tokens, no argument can hold them
_KIMI_K3 = ("<|open|>", "<|close|>", "<|sep|>")


class CallRules(NamedTuple):
    """Rules from `calls` on, for one call or several, and the grammars they refer to."""

    rules: list[str]
    parts: list[SubGrammar]


def call_rules(wrapper: Any, calls: Sequence[Call]) -> CallRules | None:
    """Return the rules of calls of these functions, `None` if the notation is not known.

    They refer to `SPACE`, white space or none. Raises `JobError` if the notation has no way to bind
    a strict function.
    """
    tokenizer = inner_tokenizer(wrapper)
    spell, kind = speller(tokenizer), notation_name(wrapper)
    start, end = spell(wrapper.tool_call_start), spell(wrapper.tool_call_end)
    if kind in TAGS:
        return _tagged(TAGS[kind], calls, spell, (start, end))
    names = {f"call_{index}": call for index, call in enumerate(calls)}
    match kind:
        case "json_tools":
            whole = f"{start} SPACE call SPACE {end}"
            calls_rule = f"{whole} (SPACE {whole})*"
            shapes = [_json_call(call, body) for body, call in names.items()]
        case "mistral" if "[ARGS]" in tokenizer.get_vocab():
            calls_rule = "call+"
            shapes = [
                f"{start} {quoted(call.name)} {spell('[ARGS]')} SPACE @{body}"
                for body, call in names.items()
            ]
        case "mistral":
            calls_rule = f'{start} SPACE "[" SPACE call (SPACE "," SPACE call)* SPACE "]"'
            shapes = [_json_call(call, body) for body, call in names.items()]
        case "pythonic":
            listed = [pythonic_call(call, body) for body, call in names.items()]
            return _listed(f'{start} "[" call (", " call)* "]" {end}', names, listed)
        case "gemma4" | "function_gemma":
            bare = GEMMAS[kind]
            listed = [bare_call(bare, call, body, spell) for body, call in names.items()]
            made = _listed(f"{start} call {end} ({start} call {end})*", names, listed)
            return made._replace(rules=made.rules + bare_values(bare, spell))
        case "kimi_k3" if all(spell(token).startswith("<[") for token in _KIMI_K3):
            calls_rule = f"{start} call+ SPACE {end}"
            shapes = [_kimi_3_call(call, body, spell) for body, call in names.items()]
        case "kimi_k2":
            calls_rule = f"{start} call+ {end}"
            shapes = [_kimi_call(call, body, spell) for body, call in names.items()]
        case _:
            return None
    rules = [f"calls: {calls_rule}", _either(shapes)]
    return CallRules(rules, [call.grammar(body) for body, call in names.items()])


def _listed(calls: str, names: Iterable[str], made: Sequence[ListedCall]) -> CallRules:
    rules = [f"calls: {calls}", _either(list(names))]
    rules += [rule for one in made for rule in one.rules]
    return CallRules(rules, [part for one in made for part in one.parts])


def _tagged(tags: Tags, calls: Sequence[Call], spell: Spell, markers: tuple[str, str]) -> CallRules:
    start, end = markers
    made = [tagged_call(tags, call, f"call_{i}", spell) for i, call in enumerate(calls)]
    whole = f"{start} call {end}"
    rules = [f"calls: {whole} (SPACE {whole})*", _either([f"call_{i}" for i in range(len(made))])]
    rules += ["BREAK: /\\n?/", *(rule for one in made for rule in one.rules)]
    return CallRules(rules, [part for one in made for part in one.parts])


def _kimi_call(call: Call, body: str, spell: Spell) -> str:
    begin, arguments, end = (
        spell(f"<|tool_call_{name}|>") for name in ("begin", "argument_begin", "end")
    )
    return f"{begin} {quoted(f'functions.{call.name}:')} /[0-9]{{1,3}}/ {arguments} @{body} {end}"


def _kimi_3_call(call: Call, body: str, spell: Spell) -> str:
    """Return a call whose arguments are one block of JSON."""

    opened, closed, ending = (spell(token) for token in _KIMI_K3)
    named = quoted(f'call tool="{call.name}" index="')
    begin = f"{opened} {named} /[0-9]{{1,3}}/ {quoted(chr(34))} {ending}"
    block = quoted('json type="object"')
    arguments = f'{opened} {block} {ending} @{body} {closed} "json" {ending}'
    return f'SPACE {begin} SPACE {arguments} SPACE {closed} "call" {ending}'


def notation_name(wrapper: Any) -> str:
    """Return mlx-lm's name of the notation of calls."""
    return str(wrapper.tool_parser.__module__.rpartition(".")[2])


def _either(shapes: Sequence[str]) -> str:
    return "call: " + "\n    | ".join(shapes)


def _json_call(call: Call, body: str) -> str:
    """Return a call as a JSON object of its name and its arguments."""
    tokens = ("{", '"name"', ":", quoted(call.name), ",", '"arguments"', ":")
    written = " SPACE ".join(quoted(token) for token in tokens)
    return f'{written} SPACE @{body} SPACE "}}"'
