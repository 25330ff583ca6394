"""One module chooses a model's adapter, and only the chosen one is imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT
from mh_batch.engine import adapter_choice
from mh_batch.engine.adapter_choice import ADAPTERS, HARMONY, NATIVE, adapter_name, make_adapter

GENERATE = """
import sys
from mh_batch.engine.completion_reader import Completion, CompletionReader
from mh_batch.engine.generate import Generator
from mh_batch.engine.measure import PromptMeasurer
from mh_batch.engine.model.load import load
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import GenerationRequest, Prompt
from mh_batch.jobs.settings import Context, Sampling

model = sys.argv[1]
prompt = Prompt((Message("user", "Hi"),), "2025-06-30")
request = GenerationRequest(prompt, Sampling(max_tokens=4), Context(), 1)
done = Generator(load(model)).generate(request, lambda: False, lambda _: None)
measured = PromptMeasurer(model).fit(request)
assert len(measured.tokens) == done.prompt_tokens
read = CompletionReader("native", model).read(Completion(done.tokens, done.stop_reason), done.raw)
assert done.tokens and read == done.parse
print("openai_harmony" in sys.modules)
"""


def test_a_model_with_a_chat_template_never_imports_openai_harmony(llama_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GENERATE, str(llama_folder)],
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout == "False\n"


def test_gpt_oss_is_read_by_harmony_and_all_others_by_their_chat_template() -> None:
    assert adapter_name("gpt_oss") == HARMONY
    assert {adapter_name(other) for other in ("llama", "qwen3", "gpt2")} == {NATIVE}


def test_an_adapter_says_the_name_that_it_was_chosen_by(llama_folder: Path) -> None:
    assert {make_adapter(name, lambda: llama_folder).name for name in ADAPTERS} == ADAPTERS


def test_harmony_asks_for_no_folder() -> None:
    def refuse() -> Path:
        raise AssertionError("asked")

    assert make_adapter(HARMONY, refuse).name == HARMONY


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(LookupError):
        make_adapter("other", Path)


def test_no_other_module_names_both_adapters() -> None:
    chosen = {"HarmonyAdapter", "native_adapter", "NativeAdapter"}
    for path in (ROOT / "engine").rglob("*.py"):
        imported = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        both = "HarmonyAdapter" in imported and len(chosen & imported) > 1
        assert both is (path == Path(adapter_choice.__file__).resolve()), path
