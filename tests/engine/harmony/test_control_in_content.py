"""A control token inside a text is never well formed; its spelling, as ordinary tokens, always."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_harmony import Conversation, Message, RenderConversationConfig, Role

from helpers.completions import completion
from helpers.spelled import TOKENS, encode
from mh_batch.engine.harmony.parse_ladder import parse_harmony
from mh_batch.engine.harmony.special_tokens import MESSAGE, spell
from mh_batch.engine.harmony.vocabulary import harmony_encoding
from mh_batch.engine.parsing.message import CALL, CLOSERS, RETURN, STOPS
from mh_batch.jobs.generation import Parse, ParserTier, StopReason

SEED = 6
SEQUENCES = 2000
ANSWER = "<|start|>assistant<|channel|>final<|message|>hello<|return|>"
SPELLED = re.compile(r"<\|[a-z0-9_]+\|>")
NAMES = ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|return|>",
         "<|constrain|>", "<|endoftext|>", "<|reserved_200017|>"]  # fmt: skip
INSIDE = [name for name in NAMES if name not in ("<|end|>", "<|call|>", "<|return|>")]
LITERAL = st.lists(st.sampled_from(NAMES) | st.text(max_size=3), max_size=8).map("".join)


def plain(text: str) -> list[int]:
    """The ids of a text in which nothing is a control token, whatever it spells."""
    return list(harmony_encoding().encode(text, disallowed_special=()))


def parse(tokens: list[int]) -> Parse:
    stopped = bool(tokens) and tokens[-1] in STOPS
    return parse_harmony(tokens, StopReason.STOP_TOKEN if stopped else StopReason.MAX_TOKENS)


def holds_control(found: Parse) -> bool:
    """Whether a text spells a control token: of ids that spell none in text, it was one."""
    return any(SPELLED.search(channel.text) for channel in found.channels)


def contents(tokens: list[int]) -> list[list[int]]:
    """The ids between each MESSAGE token and what ends that message."""
    found: list[list[int]] = []
    inside = False
    for token in tokens:
        if token == MESSAGE and not inside:
            found.append([])
            inside = True
        elif token in CLOSERS:
            inside = False
        elif inside:
            found[-1].append(token)
    return found


def rendered(found: Parse) -> list[int]:
    """The completion that openai-harmony writes of what was read: its own words for it."""
    messages = []
    for channel in found.channels:
        said = Message.from_role_and_content(Role.ASSISTANT, channel.text)
        said = said.with_channel(channel.channel)
        if channel.recipient is not None:
            said = said.with_recipient(channel.recipient).with_content_type("<|constrain|>json")
        messages.append(said)
    whole = harmony_encoding().render_conversation(
        Conversation.from_messages(messages), RenderConversationConfig(auto_drop_analysis=False)
    )
    prompt = encode("<|start|>assistant")
    assert whole[: len(prompt)] == prompt
    last = CALL if found.channels[-1].recipient is not None else RETURN
    return [*whole[len(prompt) : -1], last]


@pytest.mark.parametrize(
    "tokens",
    [
        # openai-harmony reads both as an analysis, the token spelled out in its text
        [200005, 35644, 200005, 377, 84083, 200007, *encode(ANSWER)],
        encode(f"<|channel|>analysis one<|reserved_200017|>two<|end|>{ANSWER}"),
        # here it takes the spelling for the channel, and the token for text
        [*plain("<|channel|>analysis one"), *encode(f"<|channel|>final two<|end|>{ANSWER}")],
        *[encode(f"<|channel|>analysis<|message|>one{name}two<|end|>{ANSWER}") for name in INSIDE],
        *[encode(f"<|channel|>final<|message|>one{name}two<|return|>") for name in INSIDE],
    ],
    ids=spell,
)  # fmt: skip
def test_a_control_token_inside_a_text_is_not_well_formed(tokens: list[int]) -> None:
    assert not parse(tokens).well_formed


def test_of_many_random_completions_none_that_holds_a_control_token_is_well_formed() -> None:
    rng = random.Random(SEED)
    found = [parse(completion(rng)) for _ in range(SEQUENCES)]
    good = [one for one in found if one.well_formed]
    assert not any(map(holds_control, good))
    # it is worth something only where every reader has its share of good ones
    counts = {tier: sum(one.tier is tier for one in good) for tier in ParserTier}
    assert counts[ParserTier.STRICT] > SEQUENCES // 10
    assert counts[ParserTier.TOLERANT] > SEQUENCES // 20
    assert counts[ParserTier.LENIENT] > 0


def test_what_openai_harmony_makes_of_a_good_reading_is_what_the_model_wrote() -> None:
    rng = random.Random(SEED + 1)
    compared = 0
    for tokens in (completion(rng) for _ in range(SEQUENCES)):
        found = parse(tokens)
        if found.tier is not ParserTier.STRICT or not found.well_formed:
            continue
        # a text has several encodings: what the renderer writes is the usual one of the same text
        mine = [plain(spell(words)) for words in contents(tokens)]
        assert mine == contents(rendered(found)), spell(tokens)
        compared += 1
    assert compared > SEQUENCES // 10


def test_whatever_reader_found_it_good_openai_harmony_writes_and_reads_the_same() -> None:
    rng = random.Random(SEED + 2)
    seen = set()
    for found in (parse(completion(rng)) for _ in range(SEQUENCES)):
        if not found.well_formed:
            continue
        again = parse(rendered(found))
        assert (again.tier, again.problems) == (ParserTier.STRICT, ())
        assert [(c.channel, c.recipient, c.text) for c in again.channels] == [
            (c.channel, c.recipient, c.text) for c in found.channels
        ]
        seen.add(found.tier)
    assert seen == {ParserTier.STRICT, ParserTier.LENIENT, ParserTier.TOLERANT}


@given(TOKENS, st.sampled_from(NAMES).map(encode), TOKENS)
def test_any_tokens_around_a_control_token_are_not_well_formed_with_it_in_a_text(
    before: list[int], control: list[int], after: list[int]
) -> None:
    for tokens in ([*before, *control, *after], [*before, *control, *after, *encode(ANSWER)]):
        found = parse(tokens)
        assert not (found.well_formed and holds_control(found))


@given(st.text(min_size=1).filter(str.strip) | LITERAL.filter(str.strip), LITERAL)
def test_spelled_control_tokens_in_proper_form_are_rendered_to_the_very_same_ids(
    final: str, analysis: str
) -> None:
    tokens = [
        *encode("<|channel|>analysis<|message|>"),
        *plain(analysis),
        *encode("<|end|><|start|>assistant<|channel|>final<|message|>"),
        *plain(final),
        RETURN,
    ]
    found = parse(tokens)
    assert (found.tier, found.well_formed) == (ParserTier.STRICT, True)
    assert (found.text("analysis"), found.text("final")) == (analysis, final)
    assert rendered(found) == tokens


@given(LITERAL)
def test_spelled_control_tokens_of_an_unmarked_analysis_are_text_and_none_is_lost(
    analysis: str,
) -> None:
    begun = [*encode("<|channel|>analysis"), *plain(f" {analysis}"), *encode("<|end|>")]
    found = parse([*begun, *encode(ANSWER)])
    assert found.well_formed
    assert (found.text("analysis") or "").strip() == analysis.strip()
