"""Fixed prompts, settings and sizes: the same work in every run."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import GenerationRequest, Prompt
from mh_batch.jobs.settings import EngineOptions, Settings, apply

DATE = "2025-01-01"
SEED = 20250101

UNWATCHED: Mapping[str, Any] = {"loop_detection": "off"}
"""So that the loop detector does not end text that is long on purpose."""

REUSE = EngineOptions(prefix_cache_bytes=1 << 30)
"""Reuse of repeated prompts and shared prefixes, with the same memory on every machine."""

NO_REUSE = EngineOptions(prefix_cache_bytes=0)

WORDS = (
    "river",
    "stone",
    "garden",
    "window",
    "market",
    "bridge",
    "letter",
    "candle",
    "winter",
    "harbour",
    "forest",
    "table",
    "journey",
    "morning",
    "kitchen",
    "silver",
)


class ModelSize(NamedTuple):
    """The width and the depth of a model."""

    hidden: int
    layers: int


class Sizes(msgspec.Struct, frozen=True):
    """How much each scenario does, in tokens unless the name says otherwise.

    `multiples` are positions in windows. `near` is the number of tokens decoded to measure the
    speed at a position, where a prompt stands for earlier output; `larger` is that number for the
    larger model. `submit_lines` are the sizes of two files, `queued` of two queues, `claims` the
    number of measured claims. `slots` are numbers of slots, `slot_decode` the steps measured in
    them, `slot_jobs` the jobs drained in them, on the model `drained`.
    """

    decode: int
    larger: int
    prompts: tuple[int, ...]
    window: int
    multiples: tuple[int, ...]
    near: int
    lengths: tuple[int, ...]
    memory_window: int
    memory_jobs: int
    sharing_jobs: int
    shared: int
    sharing_decode: int
    turns: int
    drain_jobs: int
    artifact_jobs: int
    detector: int
    submit_lines: tuple[int, int]
    queued: tuple[int, int]
    claims: int
    slots: tuple[int, ...]
    slot_decode: int
    slot_jobs: int
    dense: ModelSize
    experts: ModelSize
    drained: ModelSize
    small: ModelSize


FULL = Sizes(
    decode=96,
    larger=48,
    prompts=(512, 2048),
    window=256,
    multiples=(1, 2, 4, 8, 16),
    near=64,
    lengths=(500, 8000),
    memory_window=128,
    memory_jobs=20,
    sharing_jobs=20,
    shared=1000,
    sharing_decode=32,
    turns=10,
    drain_jobs=100,
    artifact_jobs=25,
    detector=100_000,
    submit_lines=(20_000, 100_000),
    queued=(1_000, 1_000_000),
    claims=500,
    slots=(2, 4, 8, 16),
    slot_decode=8,
    slot_jobs=64,
    dense=ModelSize(1536, 7),
    experts=ModelSize(256, 6),
    drained=ModelSize(1536, 2),
    small=ModelSize(256, 4),
)
QUICK = Sizes(
    decode=4,
    larger=4,
    prompts=(96,),
    window=32,
    multiples=(1, 2, 4),
    near=4,
    lengths=(100,),
    memory_window=32,
    memory_jobs=3,
    sharing_jobs=2,
    shared=100,
    sharing_decode=4,
    turns=2,
    drain_jobs=3,
    artifact_jobs=2,
    detector=2000,
    submit_lines=(50, 200),
    queued=(20, 200),
    claims=10,
    slots=(2, 8),
    slot_decode=2,
    slot_jobs=3,
    dense=ModelSize(64, 1),
    experts=ModelSize(64, 2),
    drained=ModelSize(64, 1),
    small=ModelSize(64, 1),
)

PROMPT_WORDS = 20

COUNTING = Prompt((Message("user", "Count from 1 to 300."),), DATE)
"""Its answer is long and does not loop, even beyond the demo model's stop token."""


def make_request(prompt: Prompt, values: Mapping[str, Any]) -> GenerationRequest:
    """Return a request with `values` (flat names) over the default settings.

    Raises `SettingsError` for an unknown name or an invalid value.
    """
    settings = apply(Settings(), values)
    prompt = msgspec.structs.replace(prompt, prompting=settings.prompting)
    return GenerationRequest(prompt, settings.sampling, settings.context, SEED)


def words(count: int) -> str:
    """Return `count` words in a fixed order with a long period."""
    chosen, state = [], 1
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        chosen.append(WORDS[(state >> 16) % len(WORDS)])
    return " ".join(chosen)


def prompts_of_words(count: int) -> list[Prompt]:
    """Return `count` short prompts that differ in their first word."""
    texts = (f"{number}: {words(PROMPT_WORDS)}" for number in range(count))
    return [Prompt((Message("user", text),), DATE) for text in texts]


def prompt_of(tokens: int, length: Callable[[Prompt], int], system: bool = False) -> Prompt:
    """Return a prompt of about `tokens` tokens as `length` counts them, and never more.

    `system` puts the words into a system message followed by a short question.
    """

    def with_words(count: int) -> Prompt:
        if not system:
            return Prompt((Message("user", words(count)),), DATE)
        return Prompt((Message("system", words(count)), Message("user", "Hello")), DATE)

    empty = length(with_words(1))
    each = (length(with_words(101)) - empty) / 100
    count = max(1, int((tokens - empty) / each) + 1)
    while count > 1 and length(with_words(count)) > tokens:
        count -= 1
    return with_words(count)


def sharing(prompt: Prompt, jobs: int) -> list[Prompt]:
    """Return `jobs` prompts with the system message of `prompt` and a question of their own."""
    system = prompt.messages[0]
    questions = [f"What is {n} + {n + 7}?" for n in range(11, 11 + jobs)]
    return [Prompt((system, Message("user", question)), prompt.date) for question in questions]


def turns(count: int) -> list[Prompt]:
    """Return the prompts of a conversation of `count` short questions, as it stands at each."""
    messages: list[Message] = []
    prompts = []
    for n in range(count):
        messages.append(Message("user", f"{n}: What is {n + 11} + {n + 18}?"))
        prompts.append(Prompt(tuple(messages), DATE))
        messages.append(Message("assistant", f"{n + 11} + {n + 18} is {2 * n + 29}."))
    return prompts


def various(jobs: int) -> list[Prompt]:
    """Return `jobs` different prompts of a few hundred tokens each."""
    questions = [f"{n}: {words(100 + n)}" for n in range(jobs)]
    return [Prompt((Message("user", question),), DATE) for question in questions]


def short_jobs(jobs: int) -> Iterator[bytes]:
    """Yield the lines of a file of short conversations."""
    for n in range(jobs):
        line = {"custom_id": f"sum-{n}", "prompt": f"What is {n % 40 + 10} + {n // 2 + 7}?"}
        yield msgspec.json.encode(line) + b"\n"


def long_lines(count: int) -> Iterator[bytes]:
    """Yield `count` lines of about 1 KB, each with a system message, settings and metadata."""
    text = words(130)
    for n in range(count):
        line = {
            "custom_id": f"job-{n}",
            "messages": [
                {"role": "system", "content": "Be brief, be kind."},
                {"role": "user", "content": f"{n}: {text}"},
            ],
            "temperature": 0.7,
            "topic": "words",
        }
        yield msgspec.json.encode(line) + b"\n"
