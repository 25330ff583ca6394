"""What is stored of an attempt reads again as it did when it was generated, without the model."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.documents import PROBLEMS
from helpers.scripted_model import scripted
from helpers.spelled import TOKENS, encode
from mh_batch.engine.completion_reader import Completion, CompletionReader, read
from mh_batch.engine.generate import Generator
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.engine.model.load import load
from mh_batch.jobs.conversation import FunctionSpec, Message, Tool
from mh_batch.jobs.errors import ModelNotLoaded
from mh_batch.jobs.generation import Generation, GenerationRequest, Prompt, StopReason
from mh_batch.jobs.models.names import join_name
from mh_batch.jobs.settings import Context, Sampling

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ADAPTER = HarmonyAdapter()
LOOP = (
    "<|channel|>analysis<|message|>So be it.<|end|><|start|>assistant<|channel|>final<|message|>"
    f"River{' river' * 500}"
)
PONDER = "Think for a long time about rivers."


def request(text: str, *tools: str, seed: int = 1, **sampling: Any) -> GenerationRequest:
    return GenerationRequest(
        Prompt(
            (Message("user", text),),
            "2025-06-30",
            tuple(Tool(FunctionSpec(name, "The weather in a city.", CITY)) for name in tools),
        ),
        Sampling(**{"max_tokens": 60} | sampling),
        Context(),
        seed,
    )


def stored(wanted: GenerationRequest, done: Generation) -> Completion:
    """What the store keeps of an attempt and its request."""
    return Completion(
        done.tokens,
        done.stop_reason,
        done.response_prefill,
        wanted.sampling.stops,
        wanted.prompt.tools,
    )


def run(generator: Generator, wanted: GenerationRequest) -> Generation:
    return generator.generate(wanted, lambda: False, lambda _: None)


def test_a_batch_of_the_demo_model_reads_again_as_it_was_read(gpt_oss_folder: Path) -> None:
    demo = Generator(load("demo"))
    asked = [
        request("What is 17 + 25?"),
        request("What is 60 - 18?", seed=2, max_tokens=7),
        request("Count from 1 to 12.", stop=("5", "7"), temperature=0),
        request("What is the weather in Paris?", "get_weather"),
        request("What is the weather in Paris?", "lookup", "get_time", temperature=0),
        request("What is 17 + 25?", seed=3, temperature=2.0),
        request(PONDER, max_tokens=30),
    ]
    done = [run(demo, wanted) for wanted in asked]
    asked.append(msgspec.structs.replace(asked[-1], forced_final=done[-1].tokens))
    done.append(run(demo, asked[-1]))
    # a loop takes hundreds of tokens, which a smaller model says sooner
    asked.append(request("Say river again and again.", max_tokens=700, temperature=0))
    looping = scripted(load(str(gpt_oss_folder)), asked[-1], encode(LOOP))
    done.append(run(looping, asked[-1]))
    reader = CompletionReader("harmony", "demo")
    for wanted, generation in zip(asked, done, strict=True):
        assert reader.read(stored(wanted, generation), generation.raw) == generation.parse
    # the batch holds some of everything that a reader must know of
    assert {generation.stop_reason for generation in done} == set(StopReason) - {
        StopReason.CANCELLED,
        StopReason.CONSTRAINT_FAILED,
    }
    assert done[-2].response_prefill
    assert any(generation.parse.calls for generation in done)
    problems = {code for generation in done for code in generation.parse.problems}
    assert {"truncated", "unknown_tool", "analysis_not_ended"} <= problems


def test_other_models_are_read_again_by_the_tokeniser_in_their_folder(
    llama_folder: Path, tmp_path: Path
) -> None:
    generator = Generator(load(str(llama_folder)))
    asked = [request("Hi", seed=seed, max_tokens=12) for seed in range(3)]
    asked.append(request("Hi", max_tokens=40, stop=tuple("aeio")))
    done = [run(generator, wanted) for wanted in asked]
    # of the folder only the weights are missing
    for file in llama_folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    # an adapter has no part in it, so it may be gone
    reader = CompletionReader("native", join_name(str(tmp_path), "gone"))
    for wanted, generation in zip(asked, done, strict=True):
        assert reader.read(stored(wanted, generation), generation.raw) == generation.parse


def test_tokens_that_spell_something_else_today_are_not_read() -> None:
    final = Completion((200005, 17196, 200008, 87, 200002), StopReason.STOP_TOKEN)
    with pytest.raises(ModelNotLoaded, match="not the one that made these answers"):
        CompletionReader("harmony", "demo").read(final, "<|channel|>final<|message|>y<|return|>")


@pytest.mark.parametrize(
    ("adapter", "model", "reason"),
    [
        ("native", "nowhere/at-all", "not on this machine"),
        ("native", "/no/such/folder", "no such folder"),
        ("other", "demo", "no adapter is called other"),
    ],
)
def test_what_cannot_be_read_again_says_why(adapter: str, model: str, reason: str) -> None:
    with pytest.raises(ModelNotLoaded, match=f"^{model}: .*{reason}"):
        CompletionReader(adapter, model)


def test_a_folder_without_a_tokeniser_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelNotLoaded, match="its tokeniser does not load"):
        CompletionReader("native", str(tmp_path))


@given(TOKENS, TOKENS, st.sampled_from(StopReason), st.lists(st.text(min_size=1), max_size=2))
def test_any_attempt_at_all_is_read_and_judged(
    prefill: list[int], tokens: list[int], reason: StopReason, stops: list[str]
) -> None:
    tools = (Tool(FunctionSpec("g")),)
    completion = Completion(tuple(tokens), reason, tuple(prefill), tuple(stops), tools)
    found = read(ADAPTER, completion)
    assert found.well_formed is (not found.problems)
    assert set(found.problems) <= PROBLEMS
    functions = [call for call in found.calls if call.recipient == "functions.f"]
    assert bool(functions) <= ("unknown_tool" in found.problems)


READ = """
import sys
from mh_batch.engine.completion_reader import Completion, CompletionReader
from mh_batch.jobs.generation import StopReason
completion = Completion((200005, 17196, 200008, 87, 200002), StopReason.STOP_TOKEN)
raw = "<|channel|>final<|message|>x<|return|>"
parse = CompletionReader("harmony", "a model that is long gone").read(completion, raw)
assert parse.text("final") == "x" and parse.well_formed, parse
print(sorted({name.partition(".")[0] for name in sys.modules} & {"mlx", "mlx_lm", "transformers"}))
"""


def test_harmony_is_read_again_without_mlx_and_without_the_model() -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n"
