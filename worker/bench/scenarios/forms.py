"""What a form costs: a constrained answer compared with a free one, and its first token."""

import json
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from mh_batch.engine.model.folder import DEMO
from mh_batch.worker.bench.bench import RANDOM, Bench, Found, model_folder
from mh_batch.worker.bench.report.report import Figure
from mh_batch.worker.bench.rounds import Sample, Variants, figure, interleave
from mh_batch.worker.bench.workload import COUNTING, REUSE, UNWATCHED, prompts_of_words

if TYPE_CHECKING:
    from mh_batch.worker.bench.subject import Subject

PLACE = "forms"
FORM, FREE = "in a form", "free"
COLD = "first token, cold"
SLOTS = (1, 8)
TEMPERATURE = 1.0

SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 30},
            "kind": {"enum": ["river", "stone", "garden"]},
            "number": {"type": "integer", "minimum": 0, "maximum": 9999},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        },
        "required": ["name", "kind", "number", "tags"],
        "additionalProperties": False,
    },
}
"""It takes more tokens than are measured."""


def forms(bench: Bench) -> Found:
    """Measure records without reasoning, whose masks would be cheaper, in one slot and in eight."""
    yield from _model(bench, "demo", DEMO, bench.sizes.decode, first=True)
    yield from _model(bench, "larger", RANDOM, bench.sizes.larger)


def grammar() -> str:
    """Return the grammar of a final message of `SCHEMA`."""
    from llguidance import LLMatcher

    (body,) = json.loads(LLMatcher.grammar_from_json_schema(SCHEMA))["grammars"]
    whole = {"lark_grammar": 'start: <|channel|> "final" <|message|> @body'}
    return json.dumps({"grammars": [whole, {**body, "name": "body"}]})


def _model(
    bench: Bench, model: str, name: str, tokens: int, *, first: bool = False
) -> Iterator[Figure]:
    """Measure one model; with `first`, also the time to the first token."""
    from mh_batch.worker.bench.subject import Subject

    with model_folder(name) as folder:
        subject = Subject(folder)
        if first:
            yield from _first_tokens(bench, model, subject)
        engines = {FORM: subject.bound(grammar(), REUSE), FREE: subject.generator(REUSE)}
        for count in SLOTS:
            measured = _alone if count == 1 else _in_slots
            variants: Variants = {
                kind: partial(measured, subject, engine, count, tokens)
                for kind, engine in engines.items()
            }
            samples = interleave(variants, bench.rounds)
            case = f"{model}, {count} slot{'s' if count > 1 else ''}"
            yield figure((PLACE, case), "tok/s", samples, FORM, {"of free": FREE})
            yield figure((PLACE, f"{case}, free"), "tok/s", samples, FREE)


def _first_tokens(bench: Bench, model: str, subject: "Subject") -> Iterator[Figure]:
    """Measure the time to the first token: with and without tables and compiled grammar."""
    from mh_batch.worker.bench.workload import NO_REUSE

    bound, free = subject.bound(grammar(), NO_REUSE), subject.generator(NO_REUSE)
    _first_token(subject, free)
    cold = {COLD: [_first_token(subject, bound)]}
    yield figure((PLACE, f"{model}, {COLD}"), "ms", cold, COLD)
    variants: Variants = {
        FORM: partial(_first_token, subject, bound),
        FREE: partial(_first_token, subject, free),
    }
    samples = interleave(variants, bench.rounds)
    yield figure((PLACE, f"{model}, first token, warm"), "ms", samples, FORM, {"of free": FREE})


def _first_token(subject: "Subject", engine: Any) -> Sample:
    done = subject.generate(COUNTING, {"max_tokens": 1, "temperature": 0.0}, generator=engine)
    return Sample(1000 * (done.timings.render_seconds + done.timings.first_token_seconds))


def _alone(subject: "Subject", engine: Any, _count: int, tokens: int) -> Sample:
    values = {"max_tokens": tokens + 1, "temperature": TEMPERATURE, **UNWATCHED}
    done = subject.generate(COUNTING, values, generator=engine)
    short = len(done.tokens) <= tokens
    note = f"ended after {len(done.tokens)} tokens ({done.stop_reason})" if short else ""
    return Sample(done.timings.tokens_per_second or 0.0, note)


def _in_slots(_subject: "Subject", engine: Any, count: int, tokens: int) -> Sample:
    from mh_batch.worker.bench.slot_speed import in_slots

    return in_slots(engine, prompts_of_words(count), tokens, TEMPERATURE)
