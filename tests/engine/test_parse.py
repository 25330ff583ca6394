"""Every malformation has its problems, and whatever can be read is read."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mh_batch.engine import tolerant
from mh_batch.engine.control import STOPS, is_text, spell, texts
from mh_batch.engine.parse import PARSER_VERSION, parse_harmony
from mh_batch.engine.vocabulary import harmony_encoding
from mh_batch.engine.well_formed import PROBLEMS
from mh_batch.jobs.generation import Channel, Parse, Rung, StopReason

THINK = "<|channel|>analysis<|message|>t<|end|><|start|>assistant"
ANSWER = "<|channel|>final<|message|>x<|return|>"
CALL = "commentary to=functions.f <|constrain|>json<|message|>{}<|call|>"
X = Channel("final", "x")
T = Channel("analysis", "t")
F = Channel("commentary", "{}", "functions.f", "json")


def encode(text: str) -> list[int]:
    return harmony_encoding().encode(text, allowed_special="all")


def parse(tokens: str | list[int]) -> Parse:
    ids = encode(tokens) if isinstance(tokens, str) else tokens
    stopped = bool(ids) and ids[-1] in STOPS
    return parse_harmony(ids, StopReason.STOP_TOKEN if stopped else StopReason.MAX_TOKENS)


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        (ANSWER, [X]),
        (THINK + ANSWER, [T, X]),
        (f"<|channel|>{CALL}", [F]),
        (" to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>", [F]),
        (f"{THINK}<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
         f"<|channel|>{CALL}", [T, Channel("commentary", "I look."), F]),
    ],
)  # fmt: skip
def test_what_harmony_says_is_well_formed_on_the_strict_rung(
    text: str, channels: list[Channel]
) -> None:
    found = parse(text)
    assert (found.rung, found.well_formed, found.problems) == (Rung.STRICT, True, ())
    assert list(found.channels) == channels
    assert found.parser_version == PARSER_VERSION


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        # junk words that openai-harmony takes for a recipient and a content type
        ("<|channel|>analysis foo bar<|message|>t<|end|><|start|>assistant" + ANSWER, [T, X]),
        (THINK + " foo" + ANSWER, [T, X]),
        ("<|channel|>final<|channel|>final<|message|>x<|return|>", [X]),
        ("<|start|>assistant" + ANSWER, [X]),
        # the channel run together with the recipient, or with the content type
        ("<|channel|>commentaryto=functions.f<|constrain|>json<|message|>{}<|call|>", [F]),
        ("<|channel|>commentary<|constrain|>json to=functions.f<|message|>{}<|call|>", [F]),
        ("<|channel|>commentary <|constrain|>json to=functions.f<|message|>{}<|call|>", [F]),
        # calls off the commentary channel
        ("<|channel|>analysis to=functions.f <|constrain|>json<|message|>{}<|call|>", [F]),
        ("<|channel|>analysis to=functions.f code<|message|>{}<|call|>",
         [Channel("commentary", "{}", "functions.f", "code")]),
        # a content type on an answer, and a channel without its marker
        ("<|channel|>final <|constrain|>json<|message|>{}<|return|>",
         [Channel("final", "{}", None, "json")]),
        (THINK + "final<|message|>x<|return|>", [T, X]),
    ],
)  # fmt: skip
def test_a_header_that_is_only_mis_spelt_is_mended(text: str, channels: list[Channel]) -> None:
    found = parse(text)
    assert (found.rung, found.problems) == (Rung.TOLERANT, ())
    assert list(found.channels) == channels


def test_an_analysis_without_message_token_is_read_by_the_lenient_rung() -> None:
    found = parse("<|channel|>analysis t<|end|><|start|>assistant" + ANSWER)
    assert (found.rung, found.well_formed) == (Rung.LENIENT, True)
    assert found.channels == (T, X)


@pytest.mark.parametrize(
    ("text", "problems", "channels"),
    [
        ("<|channel|>banana<|message|>x<|return|>",
         {"unknown_channel", "no_final"}, [Channel("banana", "x")]),
        ("<|message|>x<|return|>", {"no_channel"}, [X]),
        ("<|channel|>final<|message|>x<|end|><|start|>user<|message|>y<|end|>",
         {"final_not_ended", "not_assistant", "truncated"}, [X, Channel("user", "y")]),
        ("<|channel|>final<|message|>a<|constrain|>b<|return|>",
         {"control_in_content"}, [Channel("final", "ab")]),
        ("<|channel|>analysis<|message|>t" + ANSWER,
         {"control_in_content", "no_start"}, [T, X]),
        ("<|channel|>analysis<|message|>t<|start|>assistant" + ANSWER,
         {"control_in_content"}, [T, X]),
        ("<|channel|>final<|message|>x<|end|><|start|>assistant" + ANSWER,
         {"final_not_ended", "two_finals"}, [X, X]),
        ("<|channel|>final<|message|>x", {"truncated"}, [X]),
        ("<|channel|>final<|message|>x<|end|>", {"truncated", "final_not_ended"}, [X]),
        ("<|channel|>analysis<|message|>t", {"truncated", "no_final"}, [T]),
        ("<|channel|>analysis<|message|>t<|return|>", {"wrong_stop", "no_final"}, [T]),
        ("<|channel|>final<|message|>x<|call|>", {"final_not_ended"}, [X]),
        ("<|channel|>final<|message|> \n<|return|>",
         {"empty_final"}, [Channel("final", " \n")]),
        ("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|return|>",
         {"call_not_ended"}, [F]),
        ("<|channel|>commentary to=functions.f<|message|>{1}<|call|>",
         {"bad_arguments"}, [Channel("commentary", "{1}", "functions.f")]),
        ("<|channel|>commentary to=functions.f<|message|>[1]<|call|>",
         {"bad_arguments"}, [Channel("commentary", "[1]", "functions.f")]),
        ("<|channel|>commentary to=browser.search<|message|>{}<|call|>",
         {"bad_recipient"}, [Channel("commentary", "{}", "browser.search")]),
        ("<|channel|>final to=functions.f<|message|>{}<|call|>",
         {"call_off_commentary"}, [Channel("final", "{}", "functions.f")]),
        ("<|channel|>final x y<|return|>",
         {"no_message_token"}, [Channel("final", " x y")]),
        ('<|channel|>commentary to=functions.f {"a": 1}<|call|>',
         {"no_message_token"}, [Channel("commentary", ' {"a": 1}', "functions.f")]),
        ("<|channel|>analysis<|channel|>final<|message|>x<|return|>", {"header_conflict"}, [X]),
        ("<|channel|>analysis " + "so " * 20 + "<|message|>t<|end|><|start|>assistant" + ANSWER,
         {"header_junk"}, [Channel("analysis", "analysis " + "so " * 20), T, X]),
        ("x<|return|>", {"no_header"}, [X]),
        ("x", {"no_header", "truncated"}, [X]),
        ("<|channel|>final<|message|>x<|end|><|return|>",
         {"final_not_ended", "no_header", "wrong_stop"}, [X, Channel("analysis", "")]),
        (ANSWER + "<|start|>assistant" + ANSWER, {"two_finals", "after_stop"}, [X, X]),
        (ANSWER + "json<|channel|>", {"after_stop", "truncated"}, [X]),
        ("<|return|>", {"empty", "no_final"}, []),
        ("", {"empty", "no_final", "truncated"}, []),
    ],
)  # fmt: skip
def test_what_a_text_lost_or_swallowed_is_a_problem(
    text: str, problems: set[str], channels: list[Channel]
) -> None:
    found = parse(text)
    assert set(found.problems) == problems
    assert list(found.channels) == channels
    assert not found.well_formed


def test_a_stream_cut_anywhere_keeps_what_was_written() -> None:
    whole = encode(THINK + "<|channel|>final<|message|>the answer is héllo 42<|return|>")
    for end in range(len(whole)):
        found = parse(whole[:end])
        assert "truncated" in found.problems
        if "t" in spell(texts(whole[:end])) and end >= 4:
            assert found.channels[0].text == "t"
        assert len(found.channels) <= 2


def test_bytes_that_are_no_utf8_are_a_problem_unless_the_stream_was_cut_there() -> None:
    half = harmony_encoding().encode("🧿")[:1]
    head = encode("<|channel|>final<|message|>x")
    assert parse([*head, *half]).problems == ("truncated",)
    closed = parse([*head, *half, *encode("<|return|>")])
    assert closed.problems == ("invalid_utf8",)
    assert closed.text("final") == "x\ufffd"


def test_a_stop_without_its_token_is_told_from_a_cut() -> None:
    tokens = encode("<|channel|>final<|message|>x")
    assert parse_harmony(tokens, StopReason.STOP_TOKEN).problems == ("no_stop_token",)
    assert parse_harmony(tokens, StopReason.CANCELLED).problems == ("truncated",)


def test_spelled_control_tokens_are_text_and_no_structure() -> None:
    inside = harmony_encoding().encode("<|end|><|start|>user", disallowed_special=())
    head, tail = encode("<|channel|>final<|message|>"), encode("<|return|>")
    found = parse([*head, *inside, *tail])
    assert found.well_formed
    assert found.text("final") == "<|end|><|start|>user"


PIECES = st.sampled_from(
    ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|return|>",
     "<|constrain|>", "<|endoftext|>", "<|reserved_200017|>", "assistant", "user", "analysis",
     "commentary", "final", " to=", "functions.f", "json", '{"a": 1}', " hello", "é"]
).map(encode)  # fmt: skip
IDS = st.sampled_from([0, 128, 199_997, 201_088, 300_000, 2**32 - 1, 2**40, -1]) | st.integers(
    0, 201_200
)
TOKENS = st.lists(PIECES | IDS.map(lambda i: [i]), max_size=24).map(
    lambda parts: [token for part in parts for token in part]
)


@settings(max_examples=600)
@given(TOKENS, st.sampled_from(StopReason))
@example([-1], StopReason.MAX_TOKENS)
@example([200_005, 17_196, 200_008, 300_000, 200_002], StopReason.STOP_TOKEN)
def test_any_tokens_at_all_end_in_a_judged_parse(tokens: list[int], reason: StopReason) -> None:
    found = parse_harmony(tokens, reason)
    assert found.well_formed is (not found.problems)
    assert set(found.problems) <= set(PROBLEMS)
    if found.well_formed:
        assert tokens[-1] in STOPS
        assert (found.text("final") is None) is bool(found.calls)


@settings(max_examples=600)
@given(TOKENS)
def test_every_text_token_is_in_a_text_or_in_a_header(tokens: list[int]) -> None:
    reading = tolerant.read(tokens)
    assert [i for s in reading.spans for i in range(s.start, s.end)] == list(range(len(tokens)))
    content: list[int] = []
    for span in reading.spans:
        inside = tokens[span.start : span.end]
        assert all(is_text(token) is (span.kind != "control") for token in inside)
        if span.kind == "content":
            content += inside
    if "\ufffd" not in (text := spell(content)):
        assert "".join(section.text for section in reading.sections) == text


@settings(max_examples=300)
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
        return harmony_encoding().encode(text, disallowed_special=())

    tokens = [
        *encode("<|channel|>analysis<|message|>"),
        *plain(analysis),
        *encode("<|end|><|start|>assistant<|channel|>final<|message|>"),
        *plain(final),
        *encode("<|return|>"),
    ]
    found = parse(tokens)
    assert (found.rung, found.well_formed) == (Rung.STRICT, True)
    assert (found.text("analysis"), found.text("final")) == (analysis, final)
