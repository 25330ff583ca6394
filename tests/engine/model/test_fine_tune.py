"""An adapter that `mlx_lm.lora` wrote is added as mlx-lm adds it, or refused with the reason."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm import utils
from mlx_lm.models import gpt_oss, llama

from helpers.adapters import CONFIG, WEIGHTS, bare_model, write_adapter
from helpers.small_models import GPT_OSS, LLAMA, random_model
from mh_batch.engine.model.fingerprint import fingerprint
from mh_batch.engine.model.load import load, load_renderer
from mh_batch.jobs.errors import ModelNotLoaded
from mh_batch.jobs.models.names import join_name

WIDE = LLAMA | {"hidden_size": 64, "intermediate_size": 64}
PROMPT = mx.array([[1, 5, 9, 2]])


@pytest.fixture(scope="session")
def quantized_folder(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Path:
    """A llama of four bits a weight."""
    folder = tmp_path_factory.mktemp("quantised")
    shutil.copytree(llama_folder, folder, dirs_exist_ok=True)
    model = random_model(llama, WIDE)
    nn.quantize(model, group_size=32, bits=4)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    config = WIDE | {"quantization": {"group_size": 32, "bits": 4}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def mxfp4_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gpt-oss whose experts are quantised as those of the released models are."""
    config = GPT_OSS | {"hidden_size": 64, "intermediate_size": 64, "head_dim": 32}
    model = random_model(gpt_oss, config)
    four, eight = {"group_size": 32, "bits": 4, "mode": "mxfp4"}, {"group_size": 64, "bits": 8}

    def quantization(path: str, layer: Any) -> Any:
        return hasattr(layer, "to_quantized") and (four if "experts" in path else eight)

    nn.quantize(model, class_predicate=quantization)
    names = [name for name, layer in model.named_modules() if hasattr(layer, "bits")]
    folder = tmp_path_factory.mktemp("mxfp4")
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    layers = {name: four for name in names if "experts" in name}
    (folder / "config.json").write_text(json.dumps(config | {"quantization": eight | layers}))
    return folder


@pytest.fixture
def adapter(llama_folder: Path, tmp_path: Path) -> Path:
    """An adapter of the llama, to be broken."""
    return write_adapter(tmp_path / "adapter", str(llama_folder))


def logits(model: Any) -> mx.array:
    return model(PROMPT)  # type: ignore[no-any-return]


def as_mlx_lm(base: str, adapter: Path) -> mx.array:
    """What `mlx_lm.load` with this `adapter_path` answers; it takes a tokeniser, these lack one."""
    model = utils.load_adapters(bare_model(base), str(adapter))
    model.eval()
    return logits(model)


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("llama_folder", "lora"),
        ("llama_folder", "dora"),
        # mlx-lm trains all weights of a model only where they are not quantised
        ("llama_folder", "full"),
        ("quantized_folder", "lora"),
        ("quantized_folder", "dora"),
    ],
)
def test_a_model_answers_with_an_adapter_as_in_mlx_lm(
    base: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    name = str(request.getfixturevalue(base))
    adapter = write_adapter(tmp_path / "adapter", name, kind)
    made = logits(load(join_name(name, str(adapter))).model)
    assert mx.array_equal(made, as_mlx_lm(name, adapter))
    assert not mx.array_equal(made, logits(bare_model(name)))


@pytest.mark.parametrize("base", ["demo", "gpt_oss_folder", "mxfp4_folder"])
def test_the_experts_and_the_router_of_gpt_oss_take_an_adapter_too(
    base: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    name = base if base == "demo" else str(request.getfixturevalue(base))
    adapter = write_adapter(tmp_path / "adapter", name)
    tensors: Any = mx.load(str(adapter / WEIGHTS))
    layers = {key.rpartition(".")[0] for key in tensors}
    parts = {key.split(".", 3)[3] for key in layers}
    assert parts >= {"mlp.experts.down_proj", "mlp.router", "self_attn.q_proj"}
    made = logits(load(join_name(name, str(adapter))).model)
    assert mx.array_equal(made, as_mlx_lm(name, adapter))
    assert not mx.array_equal(made, logits(bare_model(name)))


def test_a_loaded_model_is_called_after_both_and_drops_nothing_out(
    llama_folder: Path, adapter: Path
) -> None:
    name = join_name(str(llama_folder), str(adapter))
    loaded = load(name)
    assert loaded.info.name == name
    assert loaded.info.adapter == "native"
    assert loaded.info.fingerprint == fingerprint(llama_folder, adapter)
    assert mx.array_equal(logits(loaded.model), logits(loaded.model))


def change_a_byte(file: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = bytearray((folder / file).read_bytes())
        content[-1] ^= 1
        (folder / file).write_bytes(content)

    return change


def test_the_fingerprint_is_one_of_the_adapter_too(llama_folder: Path, adapter: Path) -> None:
    prints = [fingerprint(llama_folder), fingerprint(llama_folder, adapter)]
    assert fingerprint(llama_folder, adapter) == prints[-1]
    for file in (CONFIG, WEIGHTS):
        change_a_byte(file)(adapter)
        prints.append(fingerprint(llama_folder, adapter))
    assert len(set(prints)) == 4


def test_every_byte_of_a_large_adapter_counts(
    llama_folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.engine.model.fingerprint.BLOCK_BYTES", 16)
    before = fingerprint(llama_folder, adapter)
    content = bytearray((adapter / WEIGHTS).read_bytes())
    content[-1717] ^= 1
    (adapter / WEIGHTS).write_bytes(content)
    assert fingerprint(llama_folder, adapter) != before


def line(base: Path, adapter: Path) -> str:
    """The one line that a user sees."""
    name = join_name(str(base), str(adapter))
    with pytest.raises(ModelNotLoaded) as caught:
        load(name)
    text = str(caught.value)
    assert text.startswith(f"{name}: ")
    assert "\n" not in text
    # what is wrong, and the cure
    assert text.count("; ") == 1
    return text


def configure(**changed: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return change


def tensors(change: Callable[[dict[str, mx.array]], object]) -> Callable[[Path], object]:
    def rewrite(folder: Path) -> None:
        path = str(folder / WEIGHTS)
        loaded: Any = mx.load(path)
        weights = dict(loaded)
        mx.eval(weights)
        change(weights)
        mx.save_safetensors(path, weights)

    return rewrite


def only_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (shutil.rmtree, "no such adapter folder"),
        (only_a_file, "is a file; an adapter is the folder that mlx_lm.lora wrote"),
        (lambda folder: (folder / CONFIG).unlink(), f"no {CONFIG} in"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"no {WEIGHTS} in"),
        (lambda folder: (folder / CONFIG).write_text("{"), "the adapter is not readable"),
        (lambda folder: (folder / CONFIG).write_text("[]"), "is no JSON object"),
        (lambda folder: os.truncate(folder / WEIGHTS, 1000), f"{WEIGHTS} is cut off: 1000 bytes"),
        (configure(peft_type="LORA"), "is of PEFT"),
        (configure(fine_tune_type="ia3"), "names the fine_tune_type 'ia3'"),
        (configure(num_layers=None), "names no num_layers"),
        (configure(lora_parameters={"rank": 4, "alpha": 8}), "names no lora_parameters with rank"),
        (configure(lora_parameters={"rank": 2, "scale": 1.0, "dropout": 0.0}), "has the shape"),
        (configure(num_layers=1), "has no place for model.layers.0."),
        (tensors(dict.clear), f"{WEIGHTS} is empty"),
        (tensors(dict.popitem), f"{WEIGHTS} lacks model.layers."),
        (
            tensors(lambda weights: weights.update(extra=mx.zeros(1))),
            "the model has no place for extra",
        ),
    ],
)
def test_a_broken_adapter_is_refused_with_the_cure(
    change: Callable[[Path], object], cause: str, llama_folder: Path, adapter: Path
) -> None:
    change(adapter)
    assert cause in line(llama_folder, adapter)


def test_an_adapter_of_another_architecture_is_refused(gpt_oss_folder: Path, adapter: Path) -> None:
    text = line(gpt_oss_folder, adapter)
    assert "does not fit the model: the model has no place for model.layers.0.mlp." in text
    assert "name the model that it was trained on" in text


def test_an_adapter_for_layers_that_cannot_have_one_is_refused(
    gpt_oss_folder: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter", str(gpt_oss_folder))
    configure(fine_tune_type="dora")(adapter)
    assert "SwitchLinear doesn't support DoRA" in line(gpt_oss_folder, adapter)


def test_layers_of_a_full_fine_tune_must_be_those_of_the_model(
    quantized_folder: Path, llama_folder: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter", str(llama_folder), "full")
    assert "has the shape" in line(quantized_folder, adapter)


def test_prompts_are_not_measured_for_a_model_without_its_adapter(llama_folder: Path) -> None:
    assert load_renderer(str(llama_folder)).context_tokens == 128
    with pytest.raises(ModelNotLoaded, match="no such adapter folder: nowhere"):
        load_renderer(join_name(str(llama_folder), "nowhere"))
