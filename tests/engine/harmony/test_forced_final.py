"""The response prefill that forces a final answer."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.spelled import TOKENS, encode
from mh_batch.engine.harmony.forced_final import forced_final_prefill
from mh_batch.engine.harmony.parse_ladder import parse_harmony
from mh_batch.engine.harmony.special_tokens import MESSAGE, spell
from mh_batch.engine.harmony.vocabulary import harmony_encoding
from mh_batch.jobs.generation import StopReason

HEAD = "<|channel|>analysis<|message|>"
NEXT = "<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"
PREAMBLE = "<|channel|>commentary<|message|>I look."


def prefill(tokens: str | list[int], most: int | None = None) -> str:
    ids = encode(tokens) if isinstance(tokens, str) else tokens
    return spell(forced_final_prefill(ids, most))


@pytest.mark.parametrize(
    ("tokens", "begun"),
    [
        (f"{HEAD}One, two", f"{HEAD}One, two{NEXT}{FINAL}"),
        (HEAD, f"{HEAD}{NEXT}{FINAL}"),
        (f"{HEAD}One{NEXT}{PREAMBLE}{NEXT}{HEAD}Two",
         f"{HEAD}One{NEXT}{PREAMBLE}{NEXT}{HEAD}Two{NEXT}{FINAL}"),
        # headers in proper form, messages of others left out, a new header begun and not ended
        ("<|start|>assistant<|channel|>analysis hm<|message|>One", f"{HEAD}One{NEXT}{FINAL}"),
        (f"{HEAD}One<|end|><|start|>user<|message|>x{NEXT}{HEAD}Two",
         f"{HEAD}One{NEXT}{HEAD}Two{NEXT}{FINAL}"),
        (f"{HEAD}One<|start|>assistant{HEAD}Two", f"{HEAD}One{NEXT}{HEAD}Two{NEXT}{FINAL}"),
        (f"{HEAD}One<|constrain|> two", f"{HEAD}One two{NEXT}{FINAL}"),
        (f"{HEAD}One<|channel|>final", f"{HEAD}One{NEXT}{FINAL}"),
    ],
)  # fmt: skip
def test_a_prefill_is_the_analysis_in_proper_form_and_the_header_of_an_answer(
    tokens: str, begun: str
) -> None:
    assert prefill(tokens) == begun


@pytest.mark.parametrize(
    "tokens",
    [
        "", "One, two", HEAD.removesuffix("<|message|>"), f"{HEAD}One<|end|>", f"{HEAD}One{NEXT}",
        f"{HEAD}One<|return|>", f"{HEAD}One{NEXT}{FINAL}", f"{HEAD}One{NEXT}{FINAL}Two",
        f"{HEAD}One{NEXT}<|channel|>commentary to=functions.f<|message|>" + "{",
        f"{FINAL}One{NEXT}{HEAD}Two",
    ],
)  # fmt: skip
def test_nothing_is_opened_where_no_analysis_is_open_or_there_is_an_answer(tokens: str) -> None:
    assert prefill(tokens) == ""


def test_a_loop_is_cut_off_behind_its_first_period() -> None:
    thought = "Rivers are long. Let me think. "
    looping = encode(HEAD + "First the Rhine. " + thought * 40)
    # the full stop behind the Rhine is the first token of what repeats
    told = f"{HEAD}First the Rhine. Rivers are long. Let me think"
    assert prefill(looping) == f"{told}{NEXT}{FINAL}"
    assert prefill(looping[:-200]) == prefill(looping)


def test_a_near_repetition_is_cut_off_too() -> None:
    lines = "".join(
        f"The river flows down to the {('sea', 'lake')[i % 7 == 3]} and on and on it goes. "
        for i in range(120)
    )
    begun = prefill(encode(HEAD + "First the Rhine. " + lines))
    assert begun.startswith(f"{HEAD}First the Rhine. The river flows")
    assert begun.count("The river flows") < 40


def test_a_loop_that_the_model_came_out_of_stays() -> None:
    thought = "Hm. " * 60 + "But then, what of the Danube, and of all the others?"
    assert prefill(HEAD + thought) == f"{HEAD}{thought}{NEXT}{FINAL}"


def test_an_analysis_that_loops_from_message_to_message_is_told_once() -> None:
    begun = prefill((f"{HEAD}I think about rivers.{NEXT}" * 20) + f"{HEAD}I think")
    assert begun.count("I think about rivers.") == 1
    assert begun.endswith(f"{NEXT}{FINAL}")


def test_the_beginning_of_a_character_is_left_out() -> None:
    eye = harmony_encoding().encode("🧿")
    assert len(eye) > 1
    head = encode(f"{HEAD}One")
    for count in range(len(eye)):
        assert prefill([*head, *eye[:count]]) == f"{HEAD}One{NEXT}{FINAL}"
    assert prefill([*head, *eye]) == f"{HEAD}One🧿{NEXT}{FINAL}"


def test_thoughts_are_cut_from_their_end_to_what_there_is_room_for() -> None:
    tokens = f"{HEAD}One two three{NEXT}{HEAD}Four five six"
    whole = forced_final_prefill(encode(tokens))
    assert prefill(tokens, len(whole)) == spell(whole)
    assert prefill(tokens, len(whole) - 2) == f"{HEAD}One two three{NEXT}{HEAD}Four{NEXT}{FINAL}"
    assert prefill(tokens, len(whole) - 4) == f"{HEAD}One two three{NEXT}{FINAL}"
    assert prefill(tokens, 10) == f"{HEAD}One{NEXT}{FINAL}"
    assert prefill(tokens, 0) == FINAL


@settings(max_examples=120)
@given(TOKENS, TOKENS, st.none() | st.integers(0, 40))
@example([200_005, 35_644, 200_008, -1, 2**40], [], None)
def test_a_prefill_goes_with_the_parse_fits_and_is_in_proper_form(
    tokens: list[int], more: list[int], most: int | None
) -> None:
    for ids in (tokens, [*encode(HEAD), *more], [*tokens, *encode(f"<|start|>assistant{HEAD}x")]):
        begun = forced_final_prefill(ids, most)
        for reason in (StopReason.MAX_TOKENS, StopReason.LOOP_DETECTED):
            said = "analysis_not_ended" in parse_harmony(ids, reason).problems
            assert said is bool(begun)
        if not begun:
            continue
        assert most is None or len(begun) <= max(most, 3)
        assert begun[-1] == MESSAGE
        answered = parse_harmony([*begun, *encode("x<|return|>")], StopReason.STOP_TOKEN)
        assert set(answered.problems) <= {"invalid_utf8"}
        assert answered.text("final") == "x"
