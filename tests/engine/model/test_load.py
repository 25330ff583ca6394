"""A model that does not load is one clear line; one that does says what it is."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

import pytest

from mh_batch.engine.model import fingerprint as prints
from mh_batch.engine.model.fingerprint import fingerprint
from mh_batch.engine.model.folder import TOKENIZER_FILES
from mh_batch.engine.model.load import load, load_renderer
from mh_batch.jobs.errors import ModelNotLoaded


@pytest.fixture
def folder(gpt_oss_folder: Path, tmp_path: Path) -> Path:
    """A copy of a good model, to be broken."""
    return Path(shutil.copytree(gpt_oss_folder, tmp_path / "model"))


def line(name: str | Path) -> str:
    """The one line that a user sees."""
    with pytest.raises(ModelNotLoaded) as caught:
        load(str(name))
    text = str(caught.value)
    assert str(name) in text
    assert "\n" not in text
    assert "Traceback" not in text
    assert len(text) < 500
    return text


def config(folder: Path, **changed: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_a_folder_that_is_not_there() -> None:
    assert "no such folder" in line("./nowhere/at/all")
    assert "a hub name looks like" in line("just-a-word")
    assert "no such folder" in line("")


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    assert "a model is a folder" in line(tmp_path / "model.gguf")


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise ConnectionError("cannot reach\nthe hub")

    monkeypatch.setattr("mlx_lm.utils.snapshot_download", refuse)
    text = line("someone/a-model")
    assert text.endswith("could not be downloaded: cannot reach the hub")


def test_measuring_prompts_fetches_no_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def give(_: str, *, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", give)
    assert load_renderer("someone/a-model").adapter.name
    (patterns,) = asked

    def fetched(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in patterns)

    assert all(map(fetched, ("config.json", *TOKENIZER_FILES, "chat_template.jinja")))
    assert not fetched("model-00001-of-00003.safetensors")
    assert not fetched("weights.npz")


def test_a_folder_without_configuration(tmp_path: Path) -> None:
    assert "no config.json" in line(tmp_path)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"{", "config.json is not readable"),
        (b"\xff\xfe", "config.json is not readable"),
        (b"[]", "names no model_type"),
        (b'{"model_type": 5}', "names no model_type"),
    ],
)
def test_a_configuration_that_is_none(folder: Path, content: bytes, cause: str) -> None:
    (folder / "config.json").write_bytes(content)
    assert cause in line(folder)


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no weights (model*.safetensors)" in line(folder)


def test_an_architecture_that_mlx_lm_does_not_know(folder: Path) -> None:
    config(folder, model_type="perceptron")
    assert "Model type perceptron not supported" in line(folder)


@pytest.mark.parametrize("size", [0, 4, 100, 5_000_000])
def test_weights_that_were_cut_off(folder: Path, size: int) -> None:
    os.truncate(folder / "model.safetensors", size)
    assert f"model.safetensors is cut off: {size} bytes" in line(folder)


def test_weights_that_are_no_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 9) + b"not json!" + b"x" * 99)
    assert "model.safetensors is no safetensors file" in line(folder)
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "model.safetensors is cut off" in line(folder)


def test_weights_that_are_not_of_this_model(folder: Path) -> None:
    config(folder, num_hidden_layers=4, layer_types=["sliding_attention", "full_attention"] * 2)
    assert "does not load: Missing" in line(folder)


def test_a_model_that_brings_code_of_its_own(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    config(folder, model_file="evil.py")
    assert "custom module" in line(folder)


def test_a_gpt_oss_with_another_vocabulary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mh_batch.engine.harmony.adapter.HarmonyAdapter.least_vocabulary", 201_089)
    assert "a vocabulary of 201088 tokens" in line(folder)


def test_a_native_model_without_a_tokeniser_or_template(llama_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(llama_folder, tmp_path / "model"))
    for template in copy.glob("chat_template*"):
        template.unlink()
    assert "no chat template" in line(copy)
    for file in copy.glob("tokenizer*"):
        file.unlink()
    assert "does not load" in line(copy)


@pytest.mark.skipif(
    "__import__('mlx.core').core.metal.is_available()", reason="only a CPU refuses bf16 experts"
)
def test_a_model_that_this_device_cannot_run_is_found_out_at_once(bf16_folder: Path) -> None:
    assert "float32" in line(bf16_folder)


def test_a_loaded_model_says_what_it_is(gpt_oss_folder: Path) -> None:
    info = load(str(gpt_oss_folder)).info
    assert info.name == str(gpt_oss_folder)
    assert (info.architecture, info.adapter, info.context_tokens) == ("gpt_oss", "harmony", 512)
    assert info.device.startswith(("cpu: ", "gpu: "))
    versions = {"python", "mlx", "mlx-lm", "openai-harmony", "mh-batch", "blas", "llguidance"}
    assert set(info.versions) == versions
    assert info.fingerprint == fingerprint(gpt_oss_folder)


def add_a_byte(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")


def flip_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        add_a_byte,
        flip_a_weight,
        lambda folder: config(folder, extra=1),
        lambda folder: (folder / "chat_template.jinja").write_text("x"),
        lambda folder: (folder / "model.safetensors").rename(folder / "model-1.safetensors"),
    ],
)
def test_the_fingerprint_changes_with_the_files(
    folder: Path, change: Callable[[Path], object]
) -> None:
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    change(folder)
    assert fingerprint(folder) != before


def test_a_large_weight_file_is_sampled_and_its_header_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prints, "BLOCK_BYTES", 16)
    path = tmp_path / "model.safetensors"
    header = b'{"tensor": "in the header"}'.ljust(3000)
    content = bytearray(struct.pack("<Q", len(header)) + header + bytes(100_000))
    path.write_bytes(content)
    before = fingerprint(tmp_path)
    for place, seen in ((2000, True), (len(content) - 1, True), (3500, False)):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert (fingerprint(tmp_path) != before) is seen


def test_code_that_comes_with_a_tokeniser_is_never_run(llama_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(llama_folder, tmp_path / "model"))
    mark = tmp_path / "ran"
    (copy / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
    config(copy, auto_map={"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"})
    path = copy / "tokenizer_config.json"
    own = json.loads(path.read_text()) if path.exists() else {}
    own |= {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    path.write_text(json.dumps(own))
    # whether it loads without that code is the library's affair
    with suppress(ModelNotLoaded):
        load(str(copy))
    assert not mark.exists()


def test_a_model_says_its_own_sampling_defaults(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "top_p": 3}')
    info = load(str(folder)).info
    assert info.defaults == {"temperature": 0.6}
    assert info.not_used == ("top_p: Expected `float` <= 1.0, got 3",)
    assert info.fingerprint == fingerprint(folder)
