"""Answers in a form, from request to result: they end by themselves and have the form."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import mlx.core as mx
import msgspec
import pytest
from llguidance import LLMatcher
from msgspec import Meta

from helpers.formed import tables_of_one_letter
from helpers.scripted_model import SURE
from helpers.spelled import encode
from mh_batch.engine.constraint.matcher import CompiledGrammars
from mh_batch.engine.fit.drop_plan import MARGIN
from mh_batch.engine.generate import Generator
from mh_batch.engine.harmony.special_tokens import (
    CHANNEL,
    CONSTRAIN,
    FIRST_CONTROL,
    MESSAGE,
    START,
    spell,
)
from mh_batch.engine.model.load import LoadedModel, load
from mh_batch.engine.parsing.message import CALL, END, RETURN
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import (
    Continuation,
    FinishReason,
    Generation,
    GenerationRequest,
    Prompt,
    StopReason,
)
from mh_batch.jobs.settings import Context, EngineOptions, Sampling


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """What the answers must be; msgspec checks them."""

    kind: Literal["sum", "person", "place"]
    number: Annotated[int, Meta(ge=0, le=99)]
    name: Annotated[str, Meta(max_length=4)]


RECORD = Form("json_schema", msgspec.json.schema_components([Record])[1]["Record"])
TEXT = "Describe a person."
THOUGHT = tuple(encode("<|channel|>analysis<|message|>Hm, rivers. Rivers"))
TEMPERATURES = (0.0, 1.0, 1.5)


@pytest.fixture(scope="module")
def demo() -> LoadedModel:
    return load("demo")


@pytest.fixture(scope="module")
def tiny(gpt_oss_folder: Path) -> LoadedModel:
    return load(str(gpt_oss_folder))


def request(
    text: str = TEXT, form: Form | None = RECORD, seed: int = 1, **sampling: Any
) -> GenerationRequest:
    return GenerationRequest(
        Prompt((Message("user", text),), "2025-06-30", form=form),
        Sampling(**{"max_tokens": 300} | sampling),
        Context(),
        seed,
    )


def run(generator: Generator, wanted: GenerationRequest) -> Generation:
    return generator.generate(wanted, lambda: False, lambda _: None)


def together(
    generator: Generator, wanted: Mapping[int, GenerationRequest], count: int
) -> dict[int, Generation]:
    """The answers to requests side by side, in so many slots."""
    slots = generator.slots(count)
    for number, one in wanted.items():
        side = msgspec.structs.replace(one, parallel=count)
        slots.add(number, side, lambda: False, lambda _: None)
    found: dict[int, Any] = {}
    while slots.busy:
        found.update(slots.step())
    return found


def assert_has_form(done: Generation) -> Record:
    """Check an answer that must have ended by itself; return what it says."""
    assert (done.stop_reason, done.finish_reason) == (StopReason.STOP_TOKEN, FinishReason.STOP)
    assert done.parse.well_formed, done.raw
    controls = [t for t in (*done.response_prefill, *done.tokens) if t >= FIRST_CONTROL]
    *thoughts, final = " ".join(map(str, controls)).split(f"{END} {START} ")
    assert set(thoughts) <= {f"{CHANNEL} {MESSAGE} "}
    assert final in (
        f"{CHANNEL} {MESSAGE} {RETURN}",
        f"{CHANNEL} {CONSTRAIN} {MESSAGE} {RETURN}",
    )
    return msgspec.json.decode(done.parse.text("final") or "", type=Record)


def test_24_answers_of_a_forced_final_end_by_themselves_and_have_their_form(
    demo: LoadedModel,
) -> None:
    generator, records = Generator(demo), []
    for heat in TEMPERATURES:
        for seed in range(8):
            wanted = request(f"{seed} + 1?", seed=seed, temperature=heat)
            done = run(generator, msgspec.structs.replace(wanted, forced_final=THOUGHT))
            prefill = spell(done.response_prefill)
            assert prefill.endswith("Rivers<|end|><|start|>assistant<|channel|>final<|message|>")
            records.append(assert_has_form(done))
    assert len({record.name for record in records}) > 4


@pytest.fixture(scope="module")
def whole(demo: LoadedModel) -> Generation:
    """An answer with its reasoning."""
    return run(Generator(demo), request())


def test_the_same_request_gives_the_same_answer(demo: LoadedModel, whole: Generation) -> None:
    assert_has_form(whole)
    assert whole.parse.text("analysis")
    generator = Generator(demo)
    run(generator, request("Hi", seed=9, max_tokens=3))
    generator.prepare(request())
    assert run(generator, request()).tokens == whole.tokens


def test_an_answer_that_was_cut_goes_on_in_its_form(demo: LoadedModel, whole: Generation) -> None:
    generator = Generator(demo)
    for cut in (whole.tokens.index(START) + 4, len(whole.tokens) - 2):
        going_on = Continuation(whole.tokens[:cut], 300)
        rest = run(generator, msgspec.structs.replace(request(), continues=going_on))
        assert rest.response_prefill == whole.tokens[:cut]
        assert_has_form(rest)


@pytest.mark.parametrize("parallel", [1, 2])
def test_an_answer_whose_beginning_the_form_does_not_allow_is_made_from_scratch(
    demo: LoadedModel, whole: Generation, parallel: int
) -> None:
    other = Continuation(tuple(encode("<|channel|>final<|message|>17 + 25")), 300)
    generator, wanted = Generator(demo), request(max_tokens=4)
    wanted = msgspec.structs.replace(wanted, continues=other)
    done = run(generator, wanted) if parallel == 1 else together(generator, {0: wanted}, 2)[0]
    assert done.response_prefill == ()
    assert done.max_tokens == 4
    assert done.prompt_tokens == whole.prompt_tokens
    assert done.tokens == whole.tokens[:4]


# each beside others of all kinds; those of the small model hardly ever end
BESIDE: dict[int, GenerationRequest] = {
    0: request(form=None, max_tokens=14),
    1: request(max_tokens=16),
    2: request(form=None, max_tokens=9, temperature=0),
    3: request(seed=4, max_tokens=12, repetition_penalty=1.3, logit_bias={"100": 5.0}),
    4: request(form=None, seed=5, max_tokens=8, top_k=20),
    5: request(form=Form("regex", "[ab]{3}"), seed=6, max_tokens=18, temperature=0),
}


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 2, 1, 4, 0, 3)])
def test_forms_and_free_answers_side_by_side_change_no_token_of_each_other(
    tiny: LoadedModel, order: Sequence[int]
) -> None:
    beside = together(Generator(tiny), {number: BESIDE[number] for number in order}, 4)
    for number, wanted in BESIDE.items():
        alone = together(Generator(tiny), {number: wanted}, 4)
        assert beside[number].tokens == alone[number].tokens, number
        assert len(beside[number].tokens) > 4
    # a free answer in slots is what it was before there were forms
    free = {number: one for number, one in BESIDE.items() if one.prompt.form is None}
    unbound = together(Generator(tiny), free, 4)
    assert all(unbound[number].tokens == beside[number].tokens for number in free)


class Adversary:
    """A model that prefers what a form forbids, and else ends what it can end."""

    FORBIDDEN = (RETURN, CALL, CONSTRAIN, START, *encode("Sorry } [ :"))
    GOOD = (END, *encode('"'), *encode("}"), *encode("final"), *encode("4"))

    def __init__(self, inner: Any, size: int) -> None:
        self._inner = inner
        self._likes = mx.zeros((size,))
        self._likes[mx.array(self.GOOD)] = SURE / 2
        self._likes[mx.array(self.FORBIDDEN)] = SURE

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, tokens: Any, cache: Any) -> Any:
        return self._inner(tokens, cache=cache) + self._likes


ADVERSE: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "hot": {"temperature": 1.5},
    "filters": {"top_p": 0.5, "min_p": 0.5},
    "xtc": {"top_k": 5, "xtc_probability": 1.0, "xtc_threshold": 0.1},
    "bias": {"logit_bias": {str(RETURN): 100.0, "13": 100.0}, "frequency_penalty": 2.0},
}


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_model_that_prefers_what_is_forbidden_keeps_to_the_form(
    tiny: LoadedModel, parallel: int
) -> None:
    model = Adversary(tiny.model, tiny.model.args.vocab_size)
    generator = Generator(tiny._replace(model=model), EngineOptions(prefix_cache_bytes=0))
    wanted = dict(enumerate(request(max_tokens=60, **adverse) for adverse in ADVERSE.values()))
    if parallel == 1:
        answers = {number: run(generator, one) for number, one in wanted.items()}
    else:
        answers = together(generator, wanted, parallel)
    assert len(answers) == len(ADVERSE)
    for done in answers.values():
        assert_has_form(done)


# so many alternatives at once are more than llguidance follows
TOO_MANY = range(2001)
TOO_COMPLEX = Form(
    "grammar",
    "\n".join(
        [
            'start: "{" body',
            "body: " + " | ".join(f"r{i}" for i in TOO_MANY),
            *(f'r{i}: "b" x{i}\nx{i}: "c{i}"' for i in TOO_MANY),
        ]
    ),
)


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_form_that_cannot_be_kept_ends_as_that_and_not_as_an_answer(
    demo: LoadedModel, parallel: int
) -> None:
    wanted = request(form=TOO_COMPLEX)
    beside = request(form=None, max_tokens=6)
    generator = Generator(demo)
    if parallel == 1:
        done = run(generator, wanted)
    else:
        answers = together(generator, {0: wanted, 1: beside}, 2)
        done = answers[0]
        assert len(answers[1].tokens) == 6
    assert done.stop_reason is StopReason.CONSTRAINT_FAILED
    assert done.finish_reason is FinishReason.LENGTH
    assert done.raw.endswith("<|channel|>final<|message|>")


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_form_that_fails_at_once_gives_an_answer_without_tokens(
    demo: LoadedModel, parallel: int
) -> None:
    class Failing:
        """An adapter whose vocabulary has no token to begin a form with."""

        token_tables = staticmethod(tables_of_one_letter)

        def __getattr__(self, name: str) -> Any:
            return getattr(demo.adapter, name)

        def grammar(self, prompt: Prompt) -> str | None:
            """A letter that is missing, where there is a form."""
            return None if prompt.form is None else 'start: "b"'

    generator = Generator(demo._replace(adapter=Failing()))
    wanted = request()
    if parallel == 1:
        done = run(generator, wanted)
    else:
        answers = together(generator, {0: wanted, 1: request(form=None, max_tokens=3)}, 2)
        done = answers[0]
        assert len(answers[1].tokens) == 3
    assert (done.stop_reason, done.tokens) == (StopReason.CONSTRAINT_FAILED, ())


def loops_at(demo: LoadedModel, text: str, form: Form) -> int | None:
    """The number of tokens after which a completion counts as a loop, `None` if it does not."""
    plan = Generator(demo).plan(request(form=form))
    is_loop = plan.callbacks(lambda: False, lambda _: None).is_loop
    assert is_loop is not None
    assert plan.constraint is not None
    for count, token in enumerate(encode(text)):
        if is_loop(token):
            return count
        assert plan.constraint.advance(token), plan.constraint.error
    return None


NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}


def test_a_form_that_has_to_repeat_is_no_loop(demo: LoadedModel) -> None:
    zeros = "<|channel|>final<|message|>[" + ",".join(["0"] * 400) + "]<|return|>"
    assert loops_at(demo, zeros, Form("json_schema", {**NUMBERS, "minItems": 400})) is None
    # a list that could have ended long before is one
    late = loops_at(demo, zeros, Form("json_schema", {**NUMBERS, "minItems": 300}))
    assert late is not None
    assert late >= 600
    free = loops_at(demo, zeros, Form("json_schema", NUMBERS))
    assert free is not None
    assert free < 520


FINAL = "<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Form("regex", "(no, yes, ){300}"), "no, yes, " * 300),
        (Form("choice", ("no, " * 400, "yes")), "no, " * 400),
        (Form("grammar", f'start: {"x " * 400}\nx: "no, "'), "no, " * 400),
        (Form("json_schema", {"const": "no, " * 400}), f'"{"no, " * 400}"'),
    ],
)
def test_a_text_without_another_way_on_is_no_loop(demo: LoadedModel, form: Form, text: str) -> None:
    assert len(encode(text)) >= 400
    assert loops_at(demo, f"{FINAL}{text}<|return|>", form) is None
    assert loops_at(demo, f"<|channel|>analysis<|message|>{text}", form) is not None


def test_a_loop_in_free_reasoning_is_one(demo: LoadedModel) -> None:
    thought = "<|channel|>analysis<|message|>" + "the answer is " * 300
    found = loops_at(demo, thought, RECORD)
    assert found is not None
    assert found < 520


def test_a_cancel_ends_an_answer_in_a_form(demo: LoadedModel, whole: Generation) -> None:
    seen: list[int] = []
    done = Generator(demo).generate(request(), lambda: len(seen) >= 5, seen.append)
    assert done.stop_reason is StopReason.CANCELLED
    assert done.tokens == whole.tokens[:6]


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("stage", ["before", "tables", "compiled"])
def test_a_cancel_is_seen_before_a_form_is_compiled_and_behind_it(
    demo: LoadedModel, parallel: int, stage: str
) -> None:
    done: list[str] = []

    class Watched(CompiledGrammars):
        """Notes what has been made."""

        def load_tables(self) -> None:
            super().load_tables()
            done.append("tables")

        def compile(self, grammar: str) -> LLMatcher:
            done.append("compiled")
            return super().compile(grammar)

    def cancelled() -> bool:
        return stage == "before" or stage in done

    generator = Generator(demo)
    generator._grammars = Watched(demo.adapter.token_tables, demo.adapter.control_tokens)
    if parallel == 1:
        ended = generator.generate(request(), cancelled, lambda _: None)
    else:
        slots = generator.slots(parallel)
        slots.add(0, request(), cancelled, lambda _: None)
        answers = [*slots.step(), *slots.step()]
        ended = next(one.outcome for one in answers if isinstance(one.outcome, Generation))
    assert (ended.stop_reason, ended.tokens) == (StopReason.CANCELLED, ())
    assert ended.timings.prefill_tokens == 0
    assert done == {"before": [], "tables": ["tables"], "compiled": ["tables", "compiled"]}[stage]


def test_max_tokens_cuts_an_answer_in_a_form(demo: LoadedModel, whole: Generation) -> None:
    room = whole.prompt_tokens + MARGIN + 10
    short = msgspec.structs.replace(request(), context=Context(max_context_tokens=room))
    done = run(Generator(demo), short)
    assert (done.stop_reason, done.tokens) == (StopReason.MAX_TOKENS, whole.tokens[:10])


def test_the_version_of_what_keeps_the_form_is_reported(demo: LoadedModel) -> None:
    assert demo.info.versions["llguidance"].startswith("1.")
