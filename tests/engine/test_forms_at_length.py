"""200 schemas that people use, each at three temperatures, with the demo model: takes minutes."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from corpora.schemas import SCHEMAS
from helpers.spelled import encode
from mh_batch.engine.constraint.validation.answers import find_error
from mh_batch.engine.generate import Generator
from mh_batch.engine.harmony.special_tokens import FIRST_CONTROL, spell
from mh_batch.engine.model.load import load
from mh_batch.engine.parsing.message import END
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import Generation, GenerationRequest, Prompt, StopReason
from mh_batch.jobs.settings import Context, Sampling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

TEMPERATURES = (0.0, 1.0, 1.5)
STRUCTURE = re.compile(
    r"(<\|channel\|><\|message\|><\|end\|><\|start\|>)*"
    r"<\|channel\|>(<\|constrain\|>)?<\|message\|><\|return\|>"
)

# the demo model has learnt to end no text that is not one of its own: with this, reasoning, lists
# and numbers end sooner or later; texts have a length
CLOSERS = {14.0: '" ", "} "]', 8.0: "} }, }] }} ] ], ]}", 4.0: ", null"}
LONGEST = 12
BOUNDS = {"maxLength", "enum", "const", "format", "pattern"}
SLOTS = 8
ENDING = {str(END): 18.0} | {
    str(encode(text)[0]): bias for bias, texts in CLOSERS.items() for text in texts.split()
}


def bounded(schema: Any) -> Any:
    """A schema whose texts have a greatest length, where nothing else says what they are."""
    if isinstance(schema, list):
        return [bounded(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    inside = {key: bounded(inner) for key, inner in schema.items()}
    kinds = schema.get("type", ())
    if "string" in kinds and not BOUNDS & schema.keys():
        inside["maxLength"] = LONGEST
    return inside


def wanted() -> Iterator[tuple[str, float, GenerationRequest]]:
    for name, schema in SCHEMAS.items():
        prompt = Prompt(
            (Message("user", f"An example: {name}."),),
            "2025-06-30",
            form=Form("json_schema", bounded(schema)),
        )
        for heat in TEMPERATURES:
            sampling = Sampling(temperature=heat, max_tokens=150, logit_bias=ENDING)
            yield name, heat, GenerationRequest(prompt, sampling, Context(), 7, parallel=SLOTS)


def test_every_answer_that_ends_is_valid_and_none_is_malformed() -> None:
    slots, asked = Generator(load("demo")).slots(SLOTS), list(wanted())
    for number, (_, _, request) in enumerate(asked):
        slots.add(number, request, lambda: False, lambda _: None)
    counts = defaultdict[float, Counter[str]](Counter)
    wrong, texts = list[tuple[str, float, str]](), set[str]()
    while slots.busy:
        for answer in slots.step():
            done, (name, heat, _) = answer.outcome, asked[answer.id]
            assert isinstance(done, Generation), done
            found = judge(done, SCHEMAS[name])
            counts[heat].update(["answered", *found])
            texts.add(done.parse.text("final") or "")
            if "ended" in found and found != ["ended", "valid"]:
                wrong.append((name, heat, done.raw))
    columns = ("answered", "ended", "valid", "malformed", "cut", "loop")
    print("\n| temperature |", " | ".join(columns), "|")
    for heat, row in sorted(counts.items()):
        print(f"| {heat:g} |", " | ".join(str(row[column]) for column in columns), "|")
    assert wrong == []
    assert len(asked) == sum(row["answered"] for row in counts.values()) == 600
    assert all(row["ended"] > 140 for row in counts.values())
    assert len(texts) > 300


def judge(done: Generation, schema: object) -> list[str]:
    """What is said of an answer; one that ended is `valid`, or it is not."""
    match done.stop_reason:
        case StopReason.MAX_TOKENS:
            return ["cut"]
        case StopReason.LOOP_DETECTED:
            return ["loop"]
    assert done.stop_reason is StopReason.STOP_TOKEN, (done.stop_reason, done.raw)
    controls = spell([token for token in done.tokens if token >= FIRST_CONTROL])
    if not done.parse.well_formed or not STRUCTURE.fullmatch(controls):
        return ["ended", "malformed"]
    assert isinstance(schema, dict)
    fault = find_error(schema, done.parse.text("final") or "")
    return ["ended"] if fault else ["ended", "valid"]
