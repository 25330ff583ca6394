"""Renders prompts that fit the context, so that the answer has room.

System and developer messages always stay, and so does the last turn. Which turns are dropped
depends on the conversation alone (`drop_plan.py`).
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from mh_batch.jobs.errors import PromptTooLong
from mh_batch.jobs.generation import Continuation, GenerationRequest, Prompt
from mh_batch.jobs.settings import Context

from .drop_plan import MARGIN, Budget, drop_further, prompt_budget, turns_to_drop
from .turn_costs import Render, TurnCosts
from .turns import split_turns, without_oldest

# a longer conversation is not even rendered to see whether it fits; prose has 4 to 5
_MOST_CHARACTERS_PER_TOKEN = 8

ResponsePrefill = Callable[[int | None], tuple[int, ...]]
"""Returns the beginning of the answer, cut to that many tokens; `None` for all of it."""

# a response prefill takes at most a quarter of the context
_PREFILL_SHARE = 4


class Fitted(NamedTuple):
    """A prompt's token ids, how many its answer may have, and how many turns were dropped.

    The last of `tokens` are the `response_prefill`, empty for an answer from scratch. Those before
    are `prompt` as it was rendered: without the dropped turns.
    """

    tokens: list[int]
    max_tokens: int
    dropped_turns: int
    response_prefill: tuple[int, ...]
    prompt: Prompt


def no_prefill(_most: int | None) -> tuple[int, ...]:
    """Return the prefill of an answer from scratch: nothing."""
    return ()


def context_limit(context: Context, model_tokens: int | None) -> int | None:
    """Return how many tokens prompt and completion may have together, `None` for no limit."""
    limits = [n for n in (context.max_context_tokens, model_tokens) if n is not None]
    return min(limits, default=None)


def remaining_room(fitted: Fitted, limit: int | None) -> int | None:
    """Return how many tokens a context of `limit` holds behind the prompt and all of its answer.

    `None` as the limit or the result is any number. Below 0 it does not hold what there is.
    """
    return None if limit is None else limit - MARGIN - len(fitted.tokens) - fitted.max_tokens


def fit_request(
    fitter: "Fitter",
    request: GenerationRequest,
    model_tokens: int | None,
    prefill: ResponsePrefill = no_prefill,
) -> Fitted:
    """Render a request's prompt, fitted to the context of the request and that of the model."""
    limit = context_limit(request.context, model_tokens)
    fitted = fitter.fit(
        request.prompt, request.sampling.max_tokens, limit, request.context.history_tokens, prefill
    )
    return fitted if request.continues is None else continued(fitted, request.continues, limit)


def continued(fitted: Fitted, cut: Continuation, limit: int | None) -> Fitted:
    """Return the prompt of an answer that was cut, with all of the answer behind it.

    Neither turns nor tokens of the answer are dropped for it. Where the context does not hold both
    and as many tokens more as are asked for, `fitted` is returned as it is, for an answer from
    scratch.
    """
    tokens = [*fitted.tokens, *cut.tokens]
    longer = fitted._replace(tokens=tokens, max_tokens=cut.max_tokens, response_prefill=cut.tokens)
    room = remaining_room(longer, limit)
    return longer if room is None or room >= 0 else fitted


class Fitter:
    """Fits the prompts of one adapter; remembers lengths it has measured, and nothing else."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._costs: TurnCosts | None = None

    def fit(
        self,
        prompt: Prompt,
        max_tokens: int,
        limit: int | None,
        history_tokens: int | None,
        prefill: ResponsePrefill = no_prefill,
    ) -> Fitted:
        """Render `prompt`, without its oldest turns where it and `max_tokens` exceed `limit`.

        Turns are dropped as well where the earlier ones together exceed `history_tokens`; `None` is
        no limit. Once no earlier turn is left, `max_tokens` is lowered to what the context holds;
        raises `PromptTooLong` if that is not even one token. A response prefill has at most a
        quarter of the context, and half of what the prompt leaves: turns go for it first, then
        `max_tokens`. Guidance is left out where it would take more of the context than it leaves
        to the answer.
        """
        budget = Budget(None if limit is None else prompt_budget(limit, max_tokens), history_tokens)
        begun = prefill(None if limit is None else limit // _PREFILL_SHARE)
        tokens, dropped = self._shorten(prompt, budget, len(begun))
        kept = _without_turns(prompt, dropped)
        if limit is None:
            return Fitted([*tokens, *begun], max_tokens, dropped, begun, kept)
        room = limit - MARGIN - len(tokens)
        if len(begun) > room // 2:
            begun = prefill(max(room // 2, 0))
        # so little room that nothing could follow: rather an answer from scratch than an error
        begun = begun if len(begun) < room else ()
        if prompt.guidance is not None and room < max_tokens:
            unguided = msgspec.structs.replace(prompt, guidance=None)
            if room < len(tokens) - len(self._render(unguided)):
                return self.fit(unguided, max_tokens, limit, history_tokens, prefill)
        if room < 1:
            raise PromptTooLong(
                f"the system messages and the last turn alone have {len(tokens)} tokens; with a "
                f"margin of {MARGIN} and an answer of at least one they exceed the context of "
                f"{limit}"
            )
        return Fitted([*tokens, *begun], min(max_tokens, room - len(begun)), dropped, begun, kept)

    def _shorten(self, prompt: Prompt, budget: Budget, prefilled: int) -> tuple[list[int], int]:
        """Return the ids of as much of the prompt as fits, and how many turns went.

        A response prefill of `prefilled` tokens will follow it.
        """
        turns = split_turns(prompt.messages)
        enough = budget.least
        if enough is None or len(turns) < 2:
            return self._render(prompt), 0
        characters = sum(len(message.content) for message in prompt.messages)
        if characters <= enough * _MOST_CHARACTERS_PER_TOKEN:
            tokens = self._render(prompt)
            if len(tokens) + prefilled <= enough:
                return tokens, 0
        measure = self._costs_for(prompt)
        costs = [*map(measure.completed, turns[:-1]), measure.unanswered(turns[-1])]
        fixed = measure.fixed(without_oldest(prompt.messages, len(turns)))
        dropped = turns_to_drop(costs, fixed, budget)
        while True:
            tokens = self._render(_without_turns(prompt, dropped))
            # guidance and a prefill are not in the plan, so that a retry begins like the attempt
            # before it; and turns of some templates are longer together than one by one
            excess = 0 if budget.prompt is None else len(tokens) + prefilled - budget.prompt
            further = drop_further(costs, dropped, excess)
            if further == dropped:
                return tokens, dropped
            dropped = further

    def _costs_for(self, prompt: Prompt) -> TurnCosts:
        """Return what measures the prompt's pieces, the last one made if it still applies."""
        setting = msgspec.structs.replace(prompt, messages=(), guidance=None)
        costs = self._costs
        if costs is None or costs.setting != setting:
            # two threads may be here, so what is returned is not looked up again
            costs = self._costs = TurnCosts(self._render, setting)
        return costs


def _without_turns(prompt: Prompt, dropped: int) -> Prompt:
    """Return the prompt without its `dropped` oldest turns."""
    if not dropped:
        return prompt
    kept = without_oldest(prompt.messages, dropped)
    return msgspec.structs.replace(prompt, messages=kept)
