"""Which turns a prompt goes without: the plan as numbers, then the prompts of both adapters."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mh_batch.engine.chat_template.adapter import NativeAdapter
from mh_batch.engine.fit.drop_plan import (
    LOW_WATER,
    MARGIN,
    Budget,
    drop_further,
    turns_to_drop,
)
from mh_batch.engine.fit.fitter import Fitted, Fitter
from mh_batch.engine.fit.turn_costs import TurnCost, TurnCosts
from mh_batch.engine.fit.turns import split_turns, without_oldest
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.jobs.conversation import FunctionCall, FunctionSpec, Message, Role, Tool, ToolCall
from mh_batch.jobs.errors import PromptTooLong
from mh_batch.jobs.generation import Prompt

Make = Callable[[str, str], NativeAdapter]

# ---- the plan


class Size(NamedTuple):
    """A turn of the tests: its question, then the tokens of each answer and of what follows it."""

    question: int
    steps: tuple[int, ...]

    @property
    def completed(self) -> int:
        return self.question + sum(self.steps)


SIZES = st.builds(
    Size, st.integers(1, 60), st.lists(st.integers(1, 60), min_size=1, max_size=3).map(tuple)
)
CONVERSATIONS = st.lists(SIZES, min_size=1, max_size=40)
BUDGETS = st.builds(Budget, st.none() | st.integers(1, 800), st.none() | st.integers(1, 800))
FIXED = st.integers(0, 50)


def cost(size: Size) -> TurnCost:
    """A turn with all its answers: at each of them stood the question and the steps before."""
    asked = [size.question + sum(size.steps[:step]) for step in range(len(size.steps))]
    return TurnCost(tuple(asked), size.completed)


def history(sizes: Sequence[Size]) -> int:
    return sum(size.completed for size in sizes)


def course(sizes: Sequence[Size]) -> list[list[TurnCost]]:
    """The conversation as it was at each of its generations, oldest first."""
    costs = [cost(size) for size in sizes]
    return [
        [*costs[:position], TurnCost(turn.at_generations[: step + 1], turn.at_generations[step])]
        for position, turn in enumerate(costs)
        for step in range(len(turn.at_generations))
    ]


@given(CONVERSATIONS, FIXED, BUDGETS)
def test_the_last_turn_stays_and_the_rest_fits_or_is_gone(
    sizes: list[Size], fixed: int, budget: Budget
) -> None:
    for turns in course(sizes):
        dropped = turns_to_drop(turns, fixed, budget)
        assert 0 <= dropped < len(turns)
        kept = sum(turn.completed for turn in turns[dropped:-1])
        alone = dropped == len(turns) - 1
        assert alone or budget.prompt is None or fixed + kept + turns[-1].completed <= budget.prompt
        assert alone or budget.history is None or kept <= budget.history


@given(CONVERSATIONS, FIXED, BUDGETS)
def test_what_went_stays_gone(sizes: list[Size], fixed: int, budget: Budget) -> None:
    counts = [turns_to_drop(turns, fixed, budget) for turns in course(sizes)]
    assert counts == sorted(counts)


@given(CONVERSATIONS, FIXED, BUDGETS)
def test_nothing_goes_where_everything_fits(sizes: list[Size], fixed: int, budget: Budget) -> None:
    everything = fixed + history(sizes)
    roomy = Budget(
        None if budget.prompt is None else budget.prompt + everything,
        None if budget.history is None else budget.history + everything,
    )
    assert turns_to_drop(course(sizes)[-1], fixed, roomy) == 0


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(60, 600))
def test_between_two_drops_a_quarter_of_the_room_has_been_filled(
    answers: list[int], room: int
) -> None:
    question, fixed = 5, 7
    budget = Budget(fixed + question + room, None)
    sizes = [Size(question, (answer,)) for answer in answers]
    drops, before = [], 0
    for position, turns in enumerate(course(sizes)):
        dropped = turns_to_drop(turns, fixed, budget)
        if dropped > before:
            drops.append(position)
        before = dropped
    for earlier, later in pairwise(drops):
        assert history(sizes[earlier:later]) > (1 - LOW_WATER) * room


def test_equal_turns_go_in_batches() -> None:
    sizes = [Size(10, (10,))] * 200
    counts = [turns_to_drop(turns, 10, Budget(420, None)) for turns in course(sizes)]
    assert counts[:21] == [0] * 21
    assert Counter(after - before for before, after in pairwise(counts)) == {0: 169, 6: 30}


def test_a_lower_budget_for_the_history_leaves_instructions_and_the_last_turn_alone() -> None:
    turns = [cost(Size(10, (10,)))] * 4 + [TurnCost((1000,), 1000)]
    assert turns_to_drop(turns, 500, Budget(None, 80)) == 0
    assert turns_to_drop(turns, 500, Budget(None, 79)) == 2
    assert turns_to_drop(turns, 500, Budget(5000, 79)) == 2
    assert turns_to_drop(turns, 500, Budget(1500, None)) == 4
    assert turns_to_drop(turns, 500, Budget(0, 1)) == 4


def test_what_a_tool_chain_pushed_out_is_out_for_its_next_steps_too() -> None:
    past = [cost(Size(10, (10,)))] * 5
    asked = (10, 60, 65, 70)
    counts = [
        turns_to_drop([*past, TurnCost(asked[: step + 1], asked[step])], 0, Budget(120, None))
        for step in range(4)
    ]
    assert counts == [0, 3, 3, 3]


def test_dropping_further_makes_up_for_the_excess_and_spares_the_last_turn() -> None:
    turns = [TurnCost((5,), 10)] * 4
    assert [drop_further(turns, 1, excess) for excess in (-1, 0, 1, 10, 11, 99)] == [
        1, 1, 2, 2, 3, 3,
    ]  # fmt: skip


# ---- turns


def said(role: Role, text: str = "", **fields: object) -> Message:
    return msgspec.structs.replace(Message(role, text), **fields)


def chain(name: str) -> tuple[Message, ...]:
    """A turn in which a tool is called twice before the answer."""
    calls = [ToolCall(f"{name}{i}", FunctionCall("look", '{"at": "it"}')) for i in (1, 2)]
    return (
        said("user", name),
        said("assistant", thinking="I look at it", tool_calls=(calls[0],)),
        said("tool", "seen", tool_call_id=calls[0].id),
        said("assistant", tool_calls=(calls[1],)),
        said("tool", "seen again", tool_call_id=calls[1].id),
        said("assistant", f"answer to {name}", thinking="that is it"),
    )


def talk(name: str, words: int = 10) -> tuple[Message, ...]:
    return (said("user", f"{name} " * words), said("assistant", f"answer to {name} " * words))


LOOK = Tool(FunctionSpec("look", "Looks at something.", {"type": "object", "properties": {}}))
ROLES: list[Role] = ["system", "developer", "user", "assistant", "tool"]
MESSAGES = st.lists(st.sampled_from(ROLES), max_size=25).map(
    lambda roles: tuple(Message(role, str(i)) for i, role in enumerate(roles))
)


@given(MESSAGES)
def test_turns_are_all_that_is_no_instruction_in_order(messages: tuple[Message, ...]) -> None:
    others = [m for m in messages if m.role not in ("system", "developer")]
    turns = split_turns(messages)
    assert [message for turn in turns for message in turn] == others
    assert all(turn[0].role == "user" for turn in turns[1:])
    assert all("user" not in [m.role for m in turn[1:]] for turn in turns)


@given(MESSAGES, st.integers(0, 30))
def test_the_oldest_turns_go_whole_and_instructions_stay(
    messages: tuple[Message, ...], dropped: int
) -> None:
    kept = without_oldest(messages, dropped)
    assert split_turns(kept) == split_turns(messages)[dropped:]
    instructions = [m for m in messages if m.role in ("system", "developer")]
    assert [m for m in kept if m.role in ("system", "developer")] == instructions
    assert [m for m in messages if m in kept] == list(kept)


def test_a_tool_chain_is_one_turn_and_so_is_a_greeting() -> None:
    greeting, last = said("assistant", "Hello!"), said("user", "last")
    messages = (said("system", "s"), greeting, *chain("a"), said("developer", "d"), last)
    assert split_turns(messages) == [(greeting,), chain("a"), (last,)]


# ---- prompts


def prompt(*messages: Message, **fields: object) -> Prompt:
    return msgspec.structs.replace(Prompt(messages, "2025-06-30"), **fields)


def fitted(
    render: Callable[[Prompt], list[int]],
    wanted: Prompt,
    limit: int | None = None,
    history_tokens: int | None = None,
    max_tokens: int = 50,
) -> Fitted:
    return Fitter(render).fit(wanted, max_tokens, limit, history_tokens)


@pytest.fixture(scope="module")
def harmony() -> HarmonyAdapter:
    return HarmonyAdapter()


@pytest.fixture(params=["Harmony", "ChatML", "Mistral, no system role", "Qwen, opens thinking"])
def family(request: pytest.FixtureRequest) -> str:
    """Whose prompts are fitted."""
    return str(request.param)


@pytest.fixture
def render(family: str, harmony: HarmonyAdapter, native: Make) -> Callable[[Prompt], list[int]]:
    """How the family renders."""
    adapter = harmony if family == "Harmony" else native("byte level", family)
    return adapter.render


def test_without_limits_the_whole_prompt_comes_back(harmony: HarmonyAdapter) -> None:
    wanted = prompt(said("system", "s"), *chain("a"), *talk("b"), said("user", "c"))
    whole = harmony.render(wanted)
    assert fitted(harmony.render, wanted) == (whole, 50, 0, (), wanted)
    limit = len(whole) + 50 + MARGIN
    assert fitted(harmony.render, wanted, limit, len(whole)) == (whole, 50, 0, (), wanted)
    assert fitted(harmony.render, wanted, limit - 1).dropped_turns > 0


def test_what_is_left_is_the_prompt_of_the_kept_messages(
    render: Callable[[Prompt], list[int]],
) -> None:
    system, last = said("system", "Be brief."), said("user", "last")
    turns = [talk(name) for name in "abcdef"]
    wanted = prompt(system, *(m for turn in turns for m in turn), last)
    whole = len(render(wanted))
    for limit in range(whole + 49 + MARGIN, whole // 3 + 50 + MARGIN, -3):
        found = fitted(render, wanted, limit)
        kept = [message for turn in turns[found.dropped_turns :] for message in turn]
        assert found.tokens == render(prompt(system, *kept, last))
        assert found.max_tokens == 50
        assert len(found.tokens) + 50 + MARGIN <= limit
        assert 0 < found.dropped_turns <= 6


@pytest.mark.parametrize("chained", [False, True])
def test_the_pieces_add_up_to_the_prompt(
    render: Callable[[Prompt], list[int]], family: str, chained: bool
) -> None:
    if chained and family not in ("Harmony", "Qwen, opens thinking"):
        pytest.skip("the template knows no tools")
    turns = [talk("a"), chain("b"), talk("c"), chain("d")[:5]] if chained else [*map(talk, "abc")]
    system = said("system", "Be brief.")
    for last in (turns[-1], turns[-1][:1]):
        messages = [message for turn in (*turns[:-1], last) for message in turn]
        wanted = prompt(system, *messages, tools=(LOOK,) if chained else ())
        gauge = TurnCosts(render, msgspec.structs.replace(wanted, messages=()))
        pieces = [gauge.completed(turn).completed for turn in turns[:-1]]
        total = gauge.fixed((system,)) + sum(pieces) + gauge.unanswered(last).at_generations[-1]
        # where instructions begin the first user message, a token can span the seam
        assert abs(len(render(wanted)) - total) <= (family == "Mistral, no system role")


def test_200_turns_stay_below_the_limit_with_the_margin_throughout(
    harmony: HarmonyAdapter,
) -> None:
    limit, max_tokens = 1500, 200
    fitter = Fitter(harmony.render)
    messages = [said("system", "You are a patient teacher."), said("developer", "Be brief.")]
    table = []
    for turn in range(200):
        messages.append(said("user", f"Question {turn}: " + "what comes next? " * (turn % 7)))
        found = fitter.fit(prompt(*messages), max_tokens, limit, None)
        table.append((found.dropped_turns, len(found.tokens)))
        if turn % 50 == 49:
            assert found == Fitter(harmony.render).fit(prompt(*messages), max_tokens, limit, None)
        thinking = "let me think " * (turn % 5)
        messages.append(said("assistant", "the next thing " * (turn % 11), thinking=thinking))
    counts = [dropped for dropped, _ in table]
    lengths = [length for _, length in table]
    assert max(lengths) + max_tokens + MARGIN <= limit
    assert min(lengths[50:]) > limit / 2
    assert counts == sorted(counts)
    assert counts[0] == 0 < 150 < counts[-1] < 199
    assert len(set(counts)) < 40


def test_a_dropped_beginning_stays_the_same_for_several_turns(harmony: HarmonyAdapter) -> None:
    fitter = Fitter(harmony.render)
    messages, found = [said("system", "Be brief.")], []
    for turn in range(60):
        messages.append(said("user", f"Question {turn}"))
        found.append(fitter.fit(prompt(*messages), 50, 800, None))
        messages.append(said("assistant", f"Answer {turn}, at some length"))
    # an earlier prompt ends with <|start|>assistant, which the answer's header continues
    kept = [b.tokens[: len(a.tokens)] == a.tokens for a, b in pairwise(found)]
    assert kept.count(False) == len({f.dropped_turns for f in found}) - 1
    assert 2 <= kept.count(False) <= 10


def test_tool_chains_stay_whole_while_a_conversation_of_them_grows(
    harmony: HarmonyAdapter,
) -> None:
    limit, fitter, messages = 900, Fitter(harmony.render), [said("system", "Be brief.")]
    counts = []
    for turn in range(12):
        for message in chain(f"look at {turn}"):
            if message.role == "assistant":
                found = fitter.fit(prompt(*messages, tools=(LOOK,)), 50, limit, None)
                counts.append(found.dropped_turns)
                assert len(found.tokens) + 50 + MARGIN <= limit
                text = harmony.decode(found.tokens)
                assert text.count(">assistant to=functions.look<") == text.count(
                    "functions.look to=assistant"
                )
                assert "Be brief." in text
                assert f"look at {turn}<" in text
            messages.append(message)
    assert counts == sorted(counts)
    assert counts[-1] > 0


def test_guidance_of_a_retry_leaves_the_beginning_as_it_is(harmony: HarmonyAdapter) -> None:
    messages = [message for i in range(30) for message in talk(str(i), 3)]
    wanted = prompt(*messages, said("user", "last"))
    plain = fitted(harmony.render, wanted, 700)
    guided = fitted(harmony.render, msgspec.structs.replace(wanted, guidance="Be brief."), 700)
    assert plain.dropped_turns == guided.dropped_turns > 0
    assert len(guided.tokens) > len(plain.tokens)


def test_guidance_that_does_not_fit_costs_further_turns(harmony: HarmonyAdapter) -> None:
    messages = [message for i in range(30) for message in talk(str(i), 3)]
    wanted = prompt(*messages, said("user", "last"))
    plain = fitted(harmony.render, wanted, 700)
    guided = fitted(
        harmony.render, msgspec.structs.replace(wanted, guidance="be brief " * 120), 700
    )
    assert guided.dropped_turns > plain.dropped_turns
    assert len(guided.tokens) + 50 + MARGIN <= 700


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(80, 400), st.integers(0, 9)
)
def test_a_prompt_fits_even_if_its_pieces_are_shorter_than_the_whole(
    words: list[int], limit: int, extra: int
) -> None:
    def render(wanted: Prompt) -> list[int]:
        pairs = len(wanted.messages) ** 2
        return [0] * (sum(len(m.content) for m in wanted.messages) + extra * pairs // 10)

    messages = [
        message for n in words for message in (said("user", "q" * n), said("assistant", "a"))
    ]
    found = fitted(render, prompt(*messages, said("user", "last")), limit, max_tokens=40)
    assert len(found.tokens) + found.max_tokens + MARGIN <= limit
    assert found.max_tokens == 40 or found.dropped_turns == len(words)


# ---- what cannot fit


def test_history_goes_before_the_answer_gets_less_room(harmony: HarmonyAdapter) -> None:
    last = said("user", "last")
    alone = harmony.render(prompt(last))
    limit = len(alone) + MARGIN + 50
    wanted = prompt(*talk("a"), *talk("b"), last)
    assert fitted(harmony.render, wanted, limit) == (alone, 50, 2, (), prompt(last))
    assert fitted(harmony.render, wanted, limit - 1) == (alone, 49, 2, (), prompt(last))
    assert fitted(harmony.render, wanted, limit - 49) == (alone, 1, 2, (), prompt(last))


def test_a_last_turn_too_long_by_itself_is_an_error_with_the_numbers(
    render: Callable[[Prompt], list[int]],
) -> None:
    system, last = said("system", "Be brief."), said("user", "what is it? " * 20)
    alone = len(render(prompt(system, last)))
    limit = alone + MARGIN
    wanted = prompt(system, *talk("a"), last)
    with pytest.raises(PromptTooLong, match=rf"have {alone} tokens; .* {MARGIN} .* of {limit}$"):
        fitted(render, wanted, limit)
    assert fitted(render, wanted, limit + 1).max_tokens == 1


def test_guidance_is_left_out_rather_than_failing_what_fitted_without_it(
    harmony: HarmonyAdapter,
) -> None:
    wanted = prompt(said("user", "last"))
    alone = harmony.render(wanted)
    guided = msgspec.structs.replace(wanted, guidance="Be brief.")
    limit = len(alone) + MARGIN + 5
    assert fitted(harmony.render, guided, limit) == (alone, 5, 0, (), wanted)
    assert fitted(harmony.render, guided, limit + 100).tokens == harmony.render(guided)
    with pytest.raises(PromptTooLong):
        fitted(harmony.render, guided, limit - 5)


def test_a_tool_chain_too_long_by_itself_is_an_error_and_not_cut(harmony: HarmonyAdapter) -> None:
    *steps, _answer = chain("look at it " * 50)
    with pytest.raises(PromptTooLong):
        fitted(harmony.render, prompt(*talk("a"), *steps, tools=(LOOK,)), 200)


def test_a_lower_budget_for_the_history_is_no_reason_to_fail(harmony: HarmonyAdapter) -> None:
    wanted = prompt(*talk("a"), said("user", "a long question " * 100))
    found = fitted(harmony.render, wanted, None, 1)
    assert found.dropped_turns == 1
    assert found.tokens == harmony.render(prompt(wanted.messages[-1]))


# ---- cost


def test_each_new_turn_costs_a_few_renderings_and_not_one_for_each_turn_before(
    harmony: HarmonyAdapter,
) -> None:
    rendered = Counter[int]()

    def counting(wanted: Prompt) -> list[int]:
        rendered[turn] += 1
        return harmony.render(wanted)

    fitter, messages = Fitter(counting), []
    for turn in range(100):
        messages.append(said("user", f"Question {turn}"))
        fitter.fit(prompt(*messages), 50, 300, None)
        messages.append(said("assistant", f"Answer {turn}"))
    assert max(rendered[turn] for turn in range(40, 100)) <= 4
    assert sum(rendered.values()) < 500


# ---- an answer that is begun


def begun(count: int) -> Callable[[int | None], tuple[int, ...]]:
    """An prefill of `count` ids that can be cut down to three."""
    return lambda most: (7,) * (count if most is None else min(count, max(most, 3)))


def test_a_prefill_ends_the_prompt_and_takes_its_room_from_turns_and_answer(
    harmony: HarmonyAdapter,
) -> None:
    last = said("user", "last")
    turns = [talk(name) for name in "abcdef"]
    wanted = prompt(*(m for turn in turns for m in turn), last)
    whole = harmony.render(wanted)
    fitter = Fitter(harmony.render)
    free = fitter.fit(wanted, 50, None, None, begun(40))
    assert free == ([*whole, *[7] * 40], 50, 0, (7,) * 40, wanted)
    enough = len(whole) + 50 + MARGIN + 40
    assert fitter.fit(wanted, 50, enough, None, begun(40)) == free
    less = fitter.fit(wanted, 50, enough - 1, None, begun(40))
    assert (less.dropped_turns, less.max_tokens, less.response_prefill) == (1, 50, (7,) * 40)
    kept = [message for turn in turns[1:] for message in turn]
    assert less.tokens == [*harmony.render(prompt(*kept, last)), *less.response_prefill]


def test_a_prefill_has_at_most_a_quarter_of_the_context(harmony: HarmonyAdapter) -> None:
    wanted = prompt(said("user", "last"))
    found = Fitter(harmony.render).fit(wanted, 1000, 1000, None, begun(600))
    assert len(found.response_prefill) == 250
    assert found.max_tokens == 1000 - MARGIN - len(found.tokens)


def test_a_prefill_leaves_the_answer_half_of_what_a_long_prompt_leaves(
    harmony: HarmonyAdapter,
) -> None:
    wanted = prompt(said("user", "a long question " * 100))
    alone = len(harmony.render(wanted))
    fitter = Fitter(harmony.render)
    found = fitter.fit(wanted, 100, alone + MARGIN + 30, None, begun(200))
    assert (len(found.response_prefill), found.max_tokens) == (15, 15)
    # where even the header of an answer would fill the context, the answer begins from scratch
    tight = fitter.fit(wanted, 100, alone + MARGIN + 3, None, begun(200))
    assert (tight.response_prefill, tight.max_tokens, len(tight.tokens)) == ((), 3, alone)
    with pytest.raises(PromptTooLong):
        fitter.fit(wanted, 100, alone + MARGIN, None, begun(200))


@given(
    st.lists(st.integers(1, 30), max_size=12), st.integers(60, 600), st.integers(0, 300),
    st.none() | st.integers(1, 300),
)  # fmt: skip
def test_prompt_prefill_and_answer_are_never_longer_than_the_context(
    words: list[int], limit: int, count: int, history: int | None
) -> None:
    def render(wanted: Prompt) -> list[int]:
        return [0] * sum(len(message.content) + 4 for message in wanted.messages)

    messages = [m for n in words for m in (said("user", "q" * n), said("assistant", "a" * n))]
    prefill = begun(count) if count else lambda _most: ()
    found = Fitter(render).fit(prompt(*messages, said("user", "x")), 40, limit, history, prefill)
    assert len(found.tokens) + found.max_tokens + MARGIN <= limit
    assert 1 <= found.max_tokens <= 40
    assert found.tokens[len(found.tokens) - len(found.response_prefill) :] == list(
        found.response_prefill
    )
    assert len(found.response_prefill) <= max(limit // 4, 3)
