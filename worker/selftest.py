"""The self-test of a model in slots, with the model process started twice."""

from collections.abc import Callable

import msgspec

from mh_batch.jobs.conversation import Message
from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.jobs.generation import Generation, GenerationRequest, ModelInfo, Prompt
from mh_batch.jobs.selftest import SelftestVerdict
from mh_batch.jobs.settings import Context, Sampling

from .model_process.client import COMMAND, ModelClient, start_model
from .options import DrainOptions

TOKENS = 16
QUESTIONS = ("What is 17 + 25?", "Count from 1 to 20.", "Name three colours.")


class Found(msgspec.Struct, frozen=True):
    """A verdict, the model that it is about, the memory by slots, and what was checked."""

    info: ModelInfo
    verdict: SelftestVerdict
    memory: dict[int, int]
    checked: tuple[str, ...]


async def run_selftest(
    options: DrainOptions,
    model: str,
    say: Callable[[str], None],
    command: tuple[str, ...] = COMMAND,
) -> Found:
    """Test a model in `options.parallel` slots; `say` takes lines for a person.

    Raises `EnvironmentFault` if it does not load, cannot run in so many, or its process dies.
    """
    async with start_model(options.log_path, options, command) as client:
        say(f"loading {model}")
        info = await client.load(model)
        say(f"checking {options.parallel} slots on {info.device}; this takes some minutes")
        tested = await client.selftest(options.parallel, thorough=True)
        found = Found(info, tested.verdict, tested.memory, tested.checked)
        if not found.verdict.passed:
            return found
        before = await _answers(client, options.parallel)
    say("once more in a new process")
    async with start_model(options.log_path, options, command) as client:
        await client.load(model)
        after = await _answers(client, options.parallel)
    return after_restart(found, equal=before == after)


def after_restart(found: Found, *, equal: bool) -> Found:
    """Return what was found, and whether the same seeds gave equal tokens in a new process."""
    verdict, checked = found.verdict, (*found.checked, "the same seeds after a restart")
    if not equal:
        verdict = msgspec.structs.replace(
            verdict, passed=False, failed="other tokens from the same seeds after a restart"
        )
    return msgspec.structs.replace(found, verdict=verdict, checked=checked)


async def _answers(client: ModelClient, parallel: int) -> list[tuple[int, ...]]:
    """Return the tokens of as many questions as slots, each with a seed of its own."""
    begun = [await client.begin(_request(seed, parallel)) for seed in range(parallel)]
    tokens = {}
    while client.open:
        answer = await client.next_answer(lambda _, __: None)
        if not isinstance(answer.outcome, Generation):
            raise EnvironmentFault(f"a question cannot be answered: {answer.outcome}")
        tokens[answer.id] = answer.outcome.tokens
    return [tokens[request] for request in begun]


def _request(seed: int, parallel: int) -> GenerationRequest:
    question = Message("user", QUESTIONS[seed % len(QUESTIONS)])
    return GenerationRequest(
        Prompt((question,), "2025-01-01"),
        Sampling(max_tokens=TOKENS, loop_detection="off"),
        Context(),
        seed,
        parallel=parallel,
    )
