"""JSON schemas of the kinds that people use, made from lists of words: 20 each of ten kinds."""

from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer"}
NOUNS = (
    "person", "invoice", "recipe", "ticket", "event", "product", "review", "paper", "flight",
    "patient", "contract", "song", "city", "company", "order", "lesson", "animal", "match",
    "device", "letter",
)  # fmt: skip
FIELDS = (
    "name", "title", "summary", "author", "label", "comment", "place", "first name", "e-mail",
    "näme", "日付", "id", "status", "note", "reason", "source", "subject", "kind", "topic", "unit",
)  # fmt: skip
VALUES = ("low", "medium", "high", "n/a", 'say "hi"', "back\\slash", "ä ö", "😀", "", "yes")
FORMATS = ("date", "time", "date-time", "duration", "uuid", "email", "hostname", "ipv4", "uri")
PATTERNS = (
    "^[A-Z]{2}-[0-9]{4}$", "^\\d{5}(-\\d{4})?$", "^#[0-9a-f]{6}$", "^(red|green|blue)$",
    "^[a-z]+(\\.[a-z]+)*$", "^\\+?[0-9 ]{6,14}$", "[aeiou]", "^v?\\d+\\.\\d+\\.\\d+$", "^.{3,8}$",
    "^[^/\\s]+/[^/\\s]+$", "[.!]$", "^\\S+@\\S+\\.\\S+$", "^(?:[01]\\d|2[0-3]):[0-5]\\d$",
)  # fmt: skip


def record(properties: Schema, optional: tuple[str, ...] = (), *, closed: bool = True) -> Schema:
    """An object of these properties; `closed` forbids others."""
    required = [name for name in properties if name not in optional]
    schema: Schema = {"type": "object", "properties": properties, "required": required}
    return schema | {"additionalProperties": False} if closed else schema


def fields(number: int, count: int) -> tuple[str, ...]:
    """`count` names of fields, others for each number."""
    return tuple(FIELDS[(number + 3 * i) % len(FIELDS)] for i in range(count))


def flat_record(number: int) -> Schema:
    """Scalars side by side."""
    kinds = (TEXT, COUNT, {"type": "number"}, {"type": "boolean"}, {"type": ["string", "null"]})
    names = fields(number, 2 + number % 5)
    return record({name: kinds[(number + i) % len(kinds)] for i, name in enumerate(names)})


def enumeration(number: int) -> Schema:
    """Values out of a list, of several types, and constants."""
    some = [VALUES[(number + i) % len(VALUES)] for i in range(2 + number % 4)]
    mixed = [number, some[0], None, True, {"unit": some[1]}, [1, 2]]
    version = {"const": number}
    return record({"level": {"type": "string", "enum": some}, "any": {"enum": mixed}, "v": version})


def nested_list(number: int) -> Schema:
    """Lists of records and of lists, with lengths."""
    item = record(dict.fromkeys(fields(number, 2), TEXT))
    most = {"maxItems": 1 + number % 4, "minItems": number % 2}
    rows: Schema = {"type": "array", "items": {"type": "array", "items": COUNT, "maxItems": 3}}
    return record({f"{NOUNS[number]}s": {"type": "array", "items": item} | most, "rows": rows})


def tagged_union(number: int) -> Schema:
    """One of several records, told apart by a constant."""
    names = [NOUNS[(number + i) % len(NOUNS)] for i in range(2 + number % 3)]
    options = [
        record({"type": {"const": name}, fields(i, 1)[0]: COUNT if i % 2 else TEXT})
        for i, name in enumerate(names)
    ]
    union = "oneOf" if number % 2 else "anyOf"
    return record({"items": {"type": "array", "items": {union: options}, "maxItems": 3}})


def optional_fields(number: int) -> Schema:
    """Fields that may be missing or null, in an object that may have others."""
    names = fields(number, 4)
    properties = {
        name: {"anyOf": [TEXT if i % 2 else COUNT, {"type": "null"}]}
        for i, name in enumerate(names)
    }
    return record(properties, names[1 + number % 3 :], closed=number % 3 > 0)


def number_range(number: int) -> Schema:
    """Numbers between bounds, and multiples."""
    return record(
        {
            "age": {"type": "integer", "minimum": number, "maximum": number + 10 * (number + 1)},
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "delta": {"type": "number", "exclusiveMinimum": -number - 0.5, "exclusiveMaximum": 9},
            "price": {"type": "number", "multipleOf": (0.01, 0.05, 0.5)[number % 3]},
            "dozen": {"type": "integer", "multipleOf": 2 + number},
        }
    )


def formatted(number: int) -> Schema:
    """Dates, addresses and the like."""
    names = fields(number, 2)
    kinds = (FORMATS[number % len(FORMATS)], FORMATS[(number + 4) % len(FORMATS)])
    return record(
        {name: {"type": "string", "format": k} for name, k in zip(names, kinds, strict=True)}
    )


def patterned(number: int) -> Schema:
    """Strings of a pattern or of a length, and keys of a pattern."""
    return {
        "type": "object",
        "properties": {
            "code": {"type": "string", "pattern": PATTERNS[number % len(PATTERNS)]},
            "short": {"type": "string", "minLength": number % 3, "maxLength": 3 + number},
        },
        "patternProperties": {"^x-": COUNT},
        "required": ["code", "short"],
        "additionalProperties": False,
    }


def recursive(number: int) -> Schema:
    """Trees, linked lists and expressions."""
    name = NOUNS[number]
    here = {"$ref": f"#/$defs/{name}"}
    shapes = (
        record({"value": TEXT, "children": {"type": "array", "items": here, "maxItems": 3}}),
        record({"value": COUNT, "next": {"anyOf": [here, {"type": "null"}]}}),
        {"anyOf": [COUNT, record({"op": {"enum": ["+", "*"]}, "left": here, "right": here})]},
        record({"name": TEXT, name: here}, optional=(name,)),
    )
    return {"$defs": {name: shapes[number % len(shapes)]}, "$ref": f"#/$defs/{name}"}


def generated(number: int) -> Schema:
    """As a library writes them: definitions, titles, defaults, composed parts."""
    first, second = fields(number, 2)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": NOUNS[number].title(),
        "description": "Made by a program.",
        "$defs": {"Size": {"enum": ["S", "M"], "title": "Size"}, "Tag": TEXT | {"maxLength": 12}},
        "type": "object",
        "properties": {
            first: TEXT | {"title": first.title(), "default": "x", "examples": ["y"]},
            second: {"allOf": [{"$ref": "#/$defs/Size"}]},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}, "maxItems": number % 4},
            "pair": {"type": "array", "prefixItems": [COUNT, TEXT], "items": False, "minItems": 2},
            "extra": {"type": "object", "additionalProperties": {"type": "boolean"}},
        },
        "required": [first, second, "tags", "pair"],
        "additionalProperties": False,
    }


KINDS: tuple[Callable[[int], Schema], ...] = (
    flat_record, enumeration, nested_list, tagged_union, optional_fields, number_range, formatted,
    patterned, recursive, generated,
)  # fmt: skip

SCHEMAS: dict[str, Schema] = {
    f"{kind.__name__} {number}": kind(number) for kind in KINDS for number in range(20)
}
"""The schemas by name; no two are the same."""
