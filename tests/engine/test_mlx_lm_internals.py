"""What the engine relies on in mlx-lm beyond its documented names: each still does what it did."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm import tokenizer_utils, utils
from mlx_lm.models.cache import RotatingKVCache
from transformers import PreTrainedTokenizerBase

from helpers.paths import ROOT
from helpers.small_models import CHATML, hugging_face
from mh_batch.engine import mlx_lm_internals

PRIVATE = {"_download", "_tokenizer", "_chat_template", "_idx"}
"""The names; a new one belongs into `engine/mlx_lm_internals.py` and here."""


def private_names(path: Path) -> Iterator[tuple[str, str]]:
    """The underscored attributes that a file uses of anything but `self` and `cls`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner not in ("self", "cls"):
                yield owner, node.attr


def test_private_names_are_used_in_one_file() -> None:
    paths = [p for p in (ROOT / "engine").rglob("*.py") if "training" not in p.parts]
    used = {str(p.relative_to(ROOT)): {name for _, name in private_names(p)} for p in paths}
    assert used.pop("engine/mlx_lm_internals.py") == PRIVATE
    assert not {path: names for path, names in used.items() if names & PRIVATE}
    # a subclass of one of mlx-lm's has its private names as its own
    inherited = {n for n in vars(RotatingKVCache(8)) if n.startswith("_")}
    assert not any(re.search(rf"self\.{n}\b", p.read_text()) for n in inherited for p in paths)


def test_mlx_lm_is_a_version_whose_private_names_are_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (bounds,) = (d for d in project["dependencies"] if d.startswith("mlx-lm"))
    major, minor = map(int, version("mlx-lm").split(".")[:2])
    assert bounds == f"mlx-lm>={major}.{minor},<{major}.{minor + 1}"


def test_download_fetches_what_is_loaded_and_leaves_a_folder_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def give(name: str, *, allow_patterns: list[str], **_: object) -> str:
        asked.append(name)
        assert {"*.json", "model*.safetensors"} <= set(allow_patterns)
        return str(tmp_path / "fetched")

    monkeypatch.setattr(utils, "snapshot_download", give)
    assert mlx_lm_internals.download("someone/a-model") == tmp_path / "fetched"
    assert mlx_lm_internals.download(str(tmp_path)) == tmp_path
    assert asked == ["someone/a-model"]


def test_the_wrapper_holds_the_tokeniser_and_the_renderer(tmp_path: Path) -> None:
    hugging_face("byte level", CHATML).save_pretrained(tmp_path)
    wrapper = tokenizer_utils.load(tmp_path)
    inner = mlx_lm_internals.inner_tokenizer(wrapper)
    assert isinstance(inner, PreTrainedTokenizerBase)
    assert inner.chat_template == CHATML
    assert not mlx_lm_internals.has_own_renderer(wrapper)
    rendering = tokenizer_utils.TokenizerWrapper(inner, chat_template=lambda *_, **__: "own")
    assert mlx_lm_internals.has_own_renderer(rendering)
    assert rendering.apply_chat_template([], tokenize=False) == "own"


def test_a_rotating_cache_says_where_it_writes_next() -> None:
    cache = RotatingKVCache(max_size=4, keep=1)
    places = []
    for position in range(8):
        token = mx.full((1, 1, 1, 2), float(position))
        keys, _ = cache.update_and_fetch(token, token)
        places.append(mlx_lm_internals.ring_position(cache))
        assert keys[0, 0, places[-1] - 1, 0].item() == position
    # once it is full it goes on behind what it keeps
    assert places == [1, 2, 3, 4, 2, 3, 4, 2]
