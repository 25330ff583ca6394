"""Declared functions whose names the model has never seen, calls of them, and their results."""

import json
import random
from dataclasses import dataclass

from openai_harmony import ToolDescription

from .tasks import Source
from .transcripts import Answer
from .vocabulary import copies_cleanly, encode, harmony
from .wordings import Wordings

VERBS = (
    "get",
    "find",
    "search",
    "show",
    "check",
    "convert",
    "look",
    "fetch",
    "read",
    "send",
    "book",
    "set",
    "translate",
    "open",
    "order",
    "start",
    "make",
    "list",
    "load",
    "query",
    "measure",
    "play",
)
NOUNS = (
    "weather",
    "price",
    "word",
    "time",
    "news",
    "stock",
    "city",
    "map",
    "book",
    "user",
    "file",
    "unit",
    "flight",
    "song",
    "recipe",
    "temperature",
    "population",
    "color",
    "definition",
    "address",
)
PARAMETERS = (
    "city",
    "word",
    "name",
    "amount",
    "unit",
    "query",
    "location",
    "number",
    "date",
    "text",
    "id",
    "place",
    "symbol",
    "count",
    "from",
    "to",
    "value",
    "limit",
    "days",
    "language",
    "title",
    "user",
)

ASK_ONE = Wordings(
    (
        "What is the {noun} in {v}?",
        "What is the {noun} of {v}?",
        "What's the {noun} in {v}?",
        "{Verb} the {noun} of {v}.",
        "{Verb} the {noun} for {v}.",
        "Tell me the {noun} of {v}.",
        "Use {name} with {p} {v}.",
        "Call {name} with {p} {v}.",
        "Call {name} for {v}.",
        "{Verb} {v}.",
        "Please {verb} {v}.",
        "{Verb} the {noun} {v}.",
        "Use {name} for {v}.",
        "How is the {noun} in {v}?",
        "{Verb} the {p} {v}.",
        "What is the {noun} for {v}?",
        "Please {verb} the {noun} in {v}.",
        "I need the {noun} of {v}.",
        "Can you {verb} the {noun} for {v}?",
        "{noun} in {v}?",
        "{Verb} up {v}.",
    ),
    (
        "Please tell me the {noun} of {v}.",
        "Give me the {noun} in {v}.",
        "Please call {name} for {v}.",
        "Can you {verb} {v}?",
        "Please use {name} with {p} {v}.",
    ),
)
ASK_TWO = Wordings(
    (
        "Use {name} with {p} {v} and {p2} {v2}.",
        "Call {name} with {p} {v} and {p2} {v2}.",
        "{Verb} {v} {v2}.",
        "{Verb} the {noun} of {v} for {v2}.",
        "What is the {noun} in {v} for {v2}?",
        "{Verb} {v} to {v2}.",
        "Please {verb} {v} for {v2}.",
        "Tell me the {noun} of {v} and {v2}.",
        "Please {verb} {v} {v2}.",
        "{Verb} the {noun} with {p} {v} and {p2} {v2}.",
        "Call {name} for {v} and {v2}.",
    ),
    (
        "Please use {name} with {p} {v} and {p2} {v2}.",
        "Can you {verb} {v} to {v2}?",
        "Please call {name} for {v} and {v2}.",
    ),
)
ASK_THREE = Wordings(
    (
        "Use {name} with {p} {v}, {p2} {v2} and {p3} {v3}.",
        "Call {name} with {p} {v}, {p2} {v2} and {p3} {v3}.",
        "{Verb} {v} from {v2} to {v3}.",
        "{Verb} the {noun} of {v}, {v2} and {v3}.",
        "Call {name} for {v}, {v2} and {v3}.",
    ),
    (
        "Please use {name} with {p} {v}, {p2} {v2} and {p3} {v3}.",
        "Please {verb} {v} from {v2} to {v3}.",
    ),
)
ASK_NOTHING = Wordings(
    ("Call {name}.", "Use {name}.", "{Verb} the {noun}.", "Please {verb} the {noun}."),
    ("Please call {name}.",),
)

DESCRIPTIONS = (
    "",
    "{Verb} the {noun}.",
    "Gets the {noun}.",
    "Get the {noun} for a {p}.",
    "A function for {noun}.",
    "{Verb} something.",
    "Returns the {noun} of a {p}.",
    "Gets the current {noun} in the provided {p}.",
)


@dataclass(frozen=True, slots=True)
class Function:
    """A declared function: what it is called, and the type of each parameter by name."""

    name: str
    verb: str
    noun: str
    parameters: dict[str, str]
    declared: ToolDescription


def declare(source: Source) -> Function:
    """Invent a function of up to three parameters."""
    rng = source.rng
    verb, noun, name = _names(source)
    amount = rng.choices((0, 1, 2, 3), (4, 46, 32, 18))[0]
    parameters = {
        _parameter(source): rng.choices(("string", "number"), (3, 1))[0] for _ in range(amount)
    }
    first = next(iter(parameters), "thing")
    description = rng.choice(DESCRIPTIONS).format(
        verb=verb, Verb=verb.capitalize(), noun=noun, p=first
    )
    described = rng.random() < 0.4
    properties = {
        key: {"type": kind, "description": f"The {key}"} if described else {"type": kind}
        for key, kind in parameters.items()
    }
    required = list(parameters) if rng.random() < 0.8 else list(parameters)[:1]
    schema = {"type": "object", "properties": properties, "required": required}
    return Function(
        name,
        verb,
        noun,
        parameters,
        ToolDescription.new(name, description, schema if amount else None),
    )


def _names(source: Source) -> tuple[str, str, str]:
    while True:
        rng = source.rng
        verb = rng.choice(VERBS) if rng.random() < 0.4 else source.word().lower()
        noun = rng.choice(NOUNS) if rng.random() < 0.4 else source.word().lower()
        shapes = (
            f"{verb}_{noun}",
            f"{verb}_{noun}",
            verb,
            noun,
            f"{verb}{noun.capitalize()}",
            f"{verb}_{noun}_now",
        )
        name = rng.choice(shapes)
        if not _same_pieces(name):
            continue
        # A request can only be told by words that the declaration shows.
        shown = name.lower()
        return verb if verb in shown else noun, noun if noun in shown else verb, name


def _same_pieces(name: str) -> bool:
    encoding = harmony()
    declared = [encoding.decode([token]) for token in encode(" " + name)]
    called = [encoding.decode([token]) for token in encode("functions." + name)[1:]]
    return [declared[0][1:], *declared[1:]] == [called[0][1:], *called[1:]] and called[0][:1] == "."


def _parameter(source: Source) -> str:
    roll = source.rng.random()
    if roll < 0.5:
        return source.rng.choice(PARAMETERS)
    word = source.word().lower()
    return word if roll < 0.9 else f"{word}_{source.rng.choice(PARAMETERS)}"


def _value(source: Source, kind: str) -> str | int:
    rng = source.rng
    if kind == "number" or rng.random() < 0.08:
        number = rng.randrange(100) if rng.random() < 0.7 else rng.randrange(1000)
        return number if kind == "number" else str(number)
    value = source.word()
    if rng.random() < 0.5:
        value = value[0].upper() + value[1:]
    if rng.random() < 0.25:
        second = source.word()
        value += " " + (second.capitalize() if value[0].isupper() else second)
    return value if copies_cleanly(value) else _value(source, kind)


def request_call(source: Source, function: Function) -> tuple[str, Answer]:
    """A request that needs `function`, and the call that meets it."""
    values = {key: _value(source, kind) for key, kind in function.parameters.items()}
    asked = (ASK_NOTHING, ASK_ONE, ASK_TWO, ASK_THREE)[len(values)]
    slots: dict[str, object] = {"p": "", "v": ""}
    for number, (key, value) in enumerate(values.items(), 1):
        suffix = "" if number == 1 else str(number)
        quoted = isinstance(value, str) and source.rng.random() < 0.08
        slots[f"p{suffix}"], slots[f"v{suffix}"] = key, f'"{value}"' if quoted else value
    verb = function.verb
    request = source.wording(asked).format(
        name=function.name, verb=verb, Verb=verb.capitalize(), noun=function.noun, **slots
    )
    arguments = json.dumps(values, separators=(",", ":"))
    return request, Answer(f"I call {function.name}.", call=(function.name, arguments))


def result_text(source: Source) -> str:
    """What a function might give back: plain text or JSON."""
    rng = source.rng
    word, other, number = source.word(), source.word(), rng.randrange(1000)
    key = rng.choice(PARAMETERS)
    plain = (
        word,
        str(number),
        f"{number} {word}",
        f"{word}, {number} degrees",
        f"{word} and {other}",
        f"{word}: {other}",
        f"The {key} is {word}.",
        f"{word} {other} {number}",
        f"error: {word} not found",
        f"{number}.{rng.randrange(100)}",
        f"It is {word} in {other}, {number} {key}.",
    )
    data: dict[str, object] = {key: rng.choice((word, number))}
    if rng.random() < 0.5:
        data[source.word().lower()] = rng.choice((other, rng.randrange(100), True, None))
    loose = rng.random() < 0.5
    as_json = json.dumps(data) if loose else json.dumps(data, separators=(",", ":"))
    return as_json if rng.random() < 0.5 else rng.choice(plain)


def state_result(result: str) -> Answer:
    """The answer that tells the user what the function gave back."""
    return Answer("The function has answered.", f"The result is:\n{result}")


def random_functions(source: Source) -> list[Function]:
    """One or two functions to declare together."""
    functions = [declare(source)]
    if source.rng.random() < 0.35:
        functions.append(declare(source))
    random.Random(functions[0].name).shuffle(functions)
    return functions
