"""What holds of every completion whatever; how single ones read is in `corpus/`."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.documents import PROBLEMS
from helpers.spelled import TOKENS, encode
from mh_batch.engine.harmony.parse_ladder import parse_harmony
from mh_batch.engine.harmony.special_tokens import is_text, spell, texts
from mh_batch.engine.harmony.tolerant import parser as tolerant_parser
from mh_batch.engine.harmony.vocabulary import harmony_encoding
from mh_batch.engine.parsing.message import STOPS
from mh_batch.jobs.generation import Parse, ParserTier, StopReason

THINK = "<|channel|>analysis<|message|>t<|end|><|start|>assistant"


def parse(tokens: str | list[int]) -> Parse:
    ids = encode(tokens) if isinstance(tokens, str) else tokens
    stopped = bool(ids) and ids[-1] in STOPS
    return parse_harmony(ids, StopReason.STOP_TOKEN if stopped else StopReason.MAX_TOKENS)


def test_a_stream_cut_anywhere_keeps_what_was_written() -> None:
    whole = encode(THINK + "<|channel|>final<|message|>the answer is héllo 42<|return|>")
    for end in range(len(whole)):
        found = parse(whole[:end])
        assert "truncated" in found.problems
        if "t" in spell(texts(whole[:end])) and end >= 4:
            assert found.channels[0].text == "t"
        assert len(found.channels) <= 2


@settings(max_examples=300)
@given(TOKENS, st.sampled_from(StopReason))
@example([-1], StopReason.MAX_TOKENS)
@example([200_005, 17_196, 200_008, 300_000, 200_002], StopReason.STOP_TOKEN)
def test_any_tokens_at_all_end_in_a_judged_parse(tokens: list[int], reason: StopReason) -> None:
    found = parse_harmony(tokens, reason)
    assert found.well_formed is (not found.problems)
    assert set(found.problems) <= PROBLEMS
    if found.well_formed:
        assert reason is StopReason.STOP_SEQUENCE or tokens[-1] in STOPS
        assert (found.text("final") is None) is bool(found.calls)


@settings(max_examples=300)
@given(TOKENS)
@example([128, 200_006, 94, 200_006])
def test_every_text_token_is_in_a_text_or_in_a_header(tokens: list[int]) -> None:
    reading = tolerant_parser.read(tokens)
    kinds = list(zip(tokens, reading.kinds, strict=True))
    assert all(is_text(token) is (kind != "control") for token, kind in kinds)
    content = [token for token, kind in kinds if kind == "content"]
    assert [token for words in reading.contents for token in words] == content
    assert len(reading.contents) == len(reading.messages)
    # a character may be cut in two by a control token
    said = [spell(words) for words in reading.contents]
    if "\ufffd" not in "".join(said):
        assert [section.text for section in reading.messages] == said


@settings(max_examples=150)
@given(TOKENS, TOKENS)
def test_a_body_with_a_control_token_is_never_well_formed(
    before: list[int], after: list[int]
) -> None:
    head = encode("<|channel|>final<|message|>x")
    body = [*texts(before), *encode("<|constrain|>"), *texts(after)]
    assert not parse([*head, *body, *encode("<|return|>")]).well_formed


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_whatever_is_said_in_proper_form_comes_back_as_it_was(final: str, analysis: str) -> None:
    def plain(text: str) -> list[int]:
        ids: list[int] = harmony_encoding().encode(text, disallowed_special=())
        return ids

    tokens = [
        *encode("<|channel|>analysis<|message|>"),
        *plain(analysis),
        *encode("<|end|><|start|>assistant<|channel|>final<|message|>"),
        *plain(final),
        *encode("<|return|>"),
    ]
    found = parse(tokens)
    assert (found.tier, found.well_formed) == (ParserTier.STRICT, True)
    assert (found.text("analysis"), found.text("final")) == (analysis, final)
