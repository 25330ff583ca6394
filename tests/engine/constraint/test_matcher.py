"""A form from token to token, with the tables of small tokenisers and of Harmony's vocabulary."""

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helpers.formed import tables_of_one_letter, whole_grammar
from helpers.spelled import encode
from mh_batch.engine.chat_template.adapter import NativeAdapter
from mh_batch.engine.constraint.matcher import KEPT, CompiledGrammars, Constraint
from mh_batch.engine.constraint.tables import tables_of_hugging_face
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.engine.harmony.special_tokens import CONTROLS, VOCABULARY_SIZE, spell
from mh_batch.engine.parsing.message import CALL, END, RETURN
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.errors import JobError

Native = Callable[[str, str], NativeAdapter]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"


@pytest.fixture(scope="module")
def harmony() -> CompiledGrammars:
    return CompiledGrammars(HarmonyAdapter().token_tables, CONTROLS)


@pytest.fixture
def small(native: Native) -> CompiledGrammars:
    """A byte-level tokeniser of 320 tokens and some control tokens."""
    adapter = native("byte level", "ChatML")
    return CompiledGrammars(adapter.token_tables, adapter.control_tokens)


def person(kept: CompiledGrammars, prefill: str = "") -> Constraint | None:
    return kept.begin(whole_grammar(Form("json_schema", PERSON)), encode(prefill))


def regex(kept: CompiledGrammars, expression: str, prefill: str = FINAL) -> Constraint:
    begun = kept.begin(whole_grammar(Form("regex", expression)), encode(prefill))
    assert begun is not None
    return begun


def allowed(constraint: Constraint) -> set[int]:
    words = enumerate(constraint.mask)
    return {32 * at + bit for at, word in words if word for bit in range(32) if word >> bit & 1}


def take(constraint: Constraint, text: str) -> bool:
    return all(map(constraint.advance, encode(text)))


def test_control_tokens_are_allowed_only_where_the_structure_has_them(
    harmony: CompiledGrammars,
) -> None:
    begun = person(harmony)
    assert begun is not None
    assert {spell([token]) for token in allowed(begun)} == {"<|channel|>"}
    assert take(begun, f"{ANALYSIS}Hm <")
    # in free text the message may end, and nothing else of the structure may come
    assert {token for token in allowed(begun) if token >= RETURN - 4} == {END}
    assert take(begun, f"|return|>?<|end|><|start|>assistant{FINAL}" + '{"name":"a <')
    assert not any(token >= RETURN - 4 for token in allowed(begun))
    assert take(begun, '|end|>","age":4')
    assert {token for token in allowed(begun) if token >= RETURN - 4} == set()
    assert take(begun, "}")
    assert allowed(begun) == {RETURN}
    assert begun.advance(RETURN)
    assert not begun.error


@pytest.mark.parametrize(
    "text",
    [
        "<|return|>",
        "Hello",
        "<|channel|>final<|message|>Here you are: ",
        f"{ANALYSIS}Hm<|return|>",
        f"{FINAL}{{}}",
        FINAL + '{"name":"a"}',
        FINAL + '{"name":"a","age":4.5',
        FINAL + '{"name":"a","age":4}<|end|>',
        "<|channel|>other<|message|>",
    ],
)
def test_a_token_that_breaks_the_form_is_an_error_that_stays(
    harmony: CompiledGrammars, text: str
) -> None:
    begun = person(harmony)
    assert begun is not None
    assert not take(begun, text)
    assert begun.error
    assert not begun.advance(encode("<|channel|>")[0])


def test_a_prefill_counts_as_if_it_had_been_drawn(harmony: CompiledGrammars) -> None:
    text = f"{ANALYSIS}Hm.<|end|><|start|>assistant{FINAL}" + '{"name": "Ä'
    ahead, drawn = person(harmony, text), person(harmony)
    assert ahead is not None
    assert drawn is not None
    assert take(drawn, text)
    assert ahead.mask == drawn.mask
    assert len(allowed(drawn)) > 100_000


def test_a_prefill_that_the_form_does_not_allow_begins_nothing(harmony: CompiledGrammars) -> None:
    assert person(harmony, f"{FINAL}The") is None


def test_the_vocabulary_has_a_bit_for_every_token_of_the_format(harmony: CompiledGrammars) -> None:
    begun = person(harmony)
    assert begun is not None
    assert 8 * begun.mask.nbytes == VOCABULARY_SIZE
    tables = HarmonyAdapter().token_tables()
    some = random.Random(1).sample(range(VOCABULARY_SIZE), 300)
    for token in [*some, *CONTROLS]:
        if token < RETURN - 4:
            assert tables.decode_bytes([token]).decode(errors="replace") == spell([token])
        assert tables.is_special_token(token) == (token >= RETURN - 4)


def test_a_call_may_be_the_end_of_a_grammar(harmony: CompiledGrammars) -> None:
    begun = harmony.begin('%llguidance {}\nstart: <|channel|> "x" <|call|>')
    assert begun is not None
    assert take(begun, "<|channel|>x")
    assert allowed(begun) == {CALL}
    assert begun.advance(CALL)


def test_a_grammar_is_compiled_once_and_attempts_share_nothing(small: CompiledGrammars) -> None:
    one, other = small.begin('start: "hello" "!"'), small.begin('start: "hello" "!"')
    assert one is not None
    assert other is not None
    before = other.mask.tobytes()
    assert one.advance(min(allowed(one)))
    assert other.mask.tobytes() == before
    first = small.compile('start: "a"')
    for number in range(2 * KEPT):
        small.compile(f'start: "{number}"')
    again = small.compile('start: "a"')
    assert first.compute_bitmask() == again.compute_bitmask()


def test_a_grammar_that_does_not_compile_is_an_error_of_the_job(small: CompiledGrammars) -> None:
    for _ in range(2):
        with pytest.raises(JobError, match="does not compile"):
            small.compile("start: missing")


def test_another_thread_may_compile_ahead(small: CompiledGrammars) -> None:
    thread = threading.Thread(target=small.compile, args=('start: "ab"',))
    thread.start()
    thread.join(30)
    begun = small.begin('start: "ab"')
    assert begun is not None
    assert allowed(begun)


def test_where_no_token_goes_on_the_form_has_failed() -> None:
    kept = CompiledGrammars(tables_of_one_letter, [1])
    begun = kept.begin('start: "é"')
    assert begun is not None
    assert begun.error


@pytest.mark.parametrize("kind", ["byte level", "metaspace"])
def test_tokenisers_of_other_models_end_at_their_end_token_only(native: Native, kind: str) -> None:
    adapter = native(kind, "ChatML")
    kept = CompiledGrammars(adapter.token_tables, adapter.control_tokens)
    begun = kept.begin('start: "{" /[a-z]{3}/ "}"')
    assert begun is not None
    tokens: list[int] = []
    chance = random.Random(3)
    while not tokens or tokens[-1] not in adapter.stop_tokens:
        may = sorted(allowed(begun))
        assert not adapter.stop_tokens & set(may) or set(may) <= adapter.stop_tokens
        tokens.append(chance.choice(may))
        assert begun.advance(tokens[-1])
    text = adapter.decode(tokens[:-1]).strip()
    assert (text[0], text[-1], len(text)) == ("{", "}", 5)


def test_a_tokeniser_that_llguidance_cannot_read_is_an_error_of_the_job(native: Native) -> None:
    with pytest.raises(JobError, match="needs a fast tokeniser; this model has str"):
        tables_of_hugging_face("slow", [1])
    with pytest.raises(JobError, match=r"that llguidance reads: .*Metaspace"):
        native("unigram", "ChatML").token_tables()


def steps(constraint: Constraint, text: str) -> Iterator[Any]:
    for token in encode(text):
        assert constraint.advance(token), constraint.error
        yield token


def test_a_form_that_has_to_repeat_lets_nothing_leave(harmony: CompiledGrammars) -> None:
    rows = {"type": "array", "items": {"const": 0}, "minItems": 40}
    begun = harmony.begin(whole_grammar(Form("json_schema", rows)), encode(FINAL))
    assert begun is not None
    for _ in steps(begun, "[0" + ",0" * 30):
        pass
    assert not begun.lets_leave(20)
    for _ in steps(begun, ",0" * 20):
        pass
    # from the 40th item on the list may end
    assert begun.lets_leave(2)
    written = regex(harmony, "(na ){80}[.]")
    assert all(not written.lets_leave(20) for _ in list(steps(written, "na " * 60))[30:])


def test_free_text_and_open_lists_can_always_be_left(harmony: CompiledGrammars) -> None:
    begun = person(harmony, ANALYSIS)
    assert begun is not None
    assert all(begun.lets_leave(1) for _ in steps(begun, " the the the the"))
    words = regex(harmony, r"(no\n)*")
    assert all([words.lets_leave(2) for _ in steps(words, "no\n" * 5)][2:])
    open_list = {"type": "array", "items": {"type": "integer"}}
    begun = harmony.begin(whole_grammar(Form("json_schema", open_list)), encode(f"{FINAL}[1"))
    assert begun is not None
    assert all(begun.lets_leave(2) for _ in steps(begun, ",1,1,1,1,1,1"))
