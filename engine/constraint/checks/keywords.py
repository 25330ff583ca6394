"""Keywords of a JSON schema that nobody would heed: JSON Schema itself passes over them."""

from typing import Any

from mh_batch.engine.constraint.schema_places import Place, places, shown
from mh_batch.engine.constraint.validation.validators import DRAFTS, draft_of
from mh_batch.jobs.did_you_mean import nearest

# what the validators of a draft read beside its keywords, and what only names a schema
_STRUCTURE = frozenset({
    "$anchor", "$defs", "$dynamicAnchor", "$id", "$recursiveAnchor", "$schema", "$vocabulary",
    "definitions", "else", "exclusiveMaximum", "exclusiveMinimum", "id", "maxContains",
    "minContains", "then",
})  # fmt: skip
_REMARKS = frozenset({
    "$comment", "contentEncoding", "contentMediaType", "contentSchema", "default", "deprecated",
    "description", "examples", "readOnly", "title", "writeOnly",
    # those of OpenAPI
    "discriminator", "example", "externalDocs", "xml",
})  # fmt: skip
_OWN = "x-"

_OF_ANY_DRAFT = frozenset[str]().union(*(draft.VALIDATORS for draft in DRAFTS))
_CURES = {
    "nullable": 'write "type": [..., "null"]',
    "additionalItems": "write items, behind prefixItems",
    "dependencies": "write dependentRequired or dependentSchemas",
    "divisibleBy": "write multipleOf",
    "$recursiveRef": "write $dynamicRef",
}


def unknown_keyword(schema: Any) -> str | None:
    """Return what is wrong with the first keyword that says nothing in the schema's draft.

    `None` if there is none. Remarks such as `title` are meant to say nothing, and so is what
    begins with `x-`.
    """
    known = _STRUCTURE | _REMARKS | frozenset(draft_of(schema).VALIDATORS)
    for place in places(schema):
        if isinstance(place.schema, dict) and (found := _fault(place, known)) is not None:
            return found
    return None


def _fault(place: Place, known: frozenset[str]) -> str | None:
    for keyword, value in place.schema.items():
        # `nullable: false` is what everything is without it
        if keyword in known or keyword.startswith(_OWN) or (keyword, value) == ("nullable", False):
            continue
        return f"{keyword}: {_reason(keyword, known)}{shown(place.pointer)}"
    return None


def _reason(keyword: str, known: frozenset[str]) -> str:
    what = "not a keyword of JSON Schema"
    if keyword in _OF_ANY_DRAFT:
        what = "not a keyword of this draft of JSON Schema"
    if (cure := _CURES.get(keyword)) is not None:
        return f"{what}; {cure}"
    if (meant := nearest(keyword, known)) is not None:
        return f"{what}; did you mean {meant}?"
    return f"{what}; a remark of your own begins with {_OWN}"
