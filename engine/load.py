"""From a model's name to a model in memory."""

import json
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
from mlx_lm import utils as mlx_lm

from mh_batch.jobs.errors import EnvironmentFault, ModelNotLoaded
from mh_batch.jobs.generation import ModelInfo

from .adapter import Adapter
from .control import VOCABULARY_SIZE
from .demo import DEMO_MODEL
from .fingerprint import fingerprint
from .harmony import HarmonyAdapter
from .tokenizer import native_adapter
from .weights import flaw, weight_files

DEMO = "demo"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LIKE = "a hub name looks like mlx-community/gpt-oss-20b-MXFP4-Q8"
_REPORTED = ("mlx", "mlx-lm", "openai-harmony", "mh-batch")
_LONGEST_CAUSE = 300


class LoadedModel(NamedTuple):
    """A model ready to generate, on the thread that loaded it: MLX streams belong to threads."""

    model: Any
    adapter: Adapter
    info: ModelInfo


def load(name: str) -> LoadedModel:
    """Load a model by name: `demo`, a folder, or a hub name (downloaded by mlx-lm if need be).

    All weights are in memory when this returns. Code that comes with a model is not run. Raises
    `ModelNotLoaded` with the name and the cause.
    """
    folder = find(name)
    config = _read_config(name, folder)
    architecture = config["model_type"]
    _check_weights(name, folder)
    try:
        model, config = mlx_lm.load_model(folder, lazy=False, trust_remote_code=False)
        adapter = _adapter(architecture, folder, config)
        _try_once(model)
    except EnvironmentFault:
        raise
    except Exception as error:
        raise ModelNotLoaded(f"{name}: does not load: {_cause(error)}") from error
    info = ModelInfo(
        name=name,
        fingerprint=fingerprint(folder),
        architecture=architecture,
        adapter=adapter.name,
        device=device(),
        context_tokens=_context_tokens(config),
        versions={
            "python": platform.python_version(),
            **{package: version(package) for package in _REPORTED},
        },
    )
    return LoadedModel(model, adapter, info)


def find(name: str) -> Path:
    """Return the folder of a model, fetched from the hub if it is not here.

    Raises `ModelNotLoaded`.
    """
    if name == DEMO:
        return DEMO_MODEL
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        return folder
    if name.strip() and folder.exists():
        raise ModelNotLoaded(f"{name}: is a file; a model is a folder")
    if not _HUB_NAME.fullmatch(name):
        raise ModelNotLoaded(f"{name or '(no name)'}: no such folder ({_LIKE})")
    try:
        return Path(mlx_lm._download(name))
    except Exception as error:
        raise ModelNotLoaded(
            f"{name}: no such folder, and the hub did not give it: {_cause(error)}"
        ) from error


def device() -> str:
    """Return what MLX runs on, such as `gpu: Apple M3 Max` or `cpu: AMD EPYC`."""
    kind = str(mx.default_device().type).rpartition(".")[2]
    about = mx.device_info()
    return f"{kind}: {about.get('device_name') or about.get('architecture') or platform.machine()}"


def _read_config(name: str, folder: Path) -> dict[str, Any]:
    """Return `config.json`, checked to be an object that names a model type."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelNotLoaded(f"{name}: no config.json in {folder}") from None
    except (OSError, ValueError) as error:
        raise ModelNotLoaded(f"{name}: config.json is not readable: {_cause(error)}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelNotLoaded(f"{name}: config.json names no model_type")
    return config


def _check_weights(name: str, folder: Path) -> None:
    """Refuse a folder without whole weight files: a download that broke off is the usual cause."""
    files = weight_files(folder)
    if not files:
        raise ModelNotLoaded(f"{name}: no weights (model*.safetensors) in {folder}")
    try:
        flaws = [found for path in files if (found := flaw(path))]
    except OSError as error:
        raise ModelNotLoaded(f"{name}: weights are not readable: {_cause(error)}") from error
    if flaws:
        raise ModelNotLoaded(f"{name}: {flaws[0]}")


def _adapter(architecture: str, folder: Path, config: dict[str, Any]) -> Adapter:
    """Return what renders and reads for the model."""
    if architecture == "gpt_oss":
        # an id beyond the embedding would read whatever lies behind it in memory
        if (size := config.get("vocab_size", VOCABULARY_SIZE)) < VOCABULARY_SIZE:
            raise ValueError(f"a vocabulary of {size} tokens; Harmony has {VOCABULARY_SIZE}")
        return HarmonyAdapter()
    return native_adapter(folder)


def _try_once(model: Any) -> None:
    """Run one token, so that what this device cannot do shows now and not in a job.

    (Unquantised bf16 experts, for one, do not run on a CPU.)
    """
    mx.eval(model(mx.array([[0]], dtype=mx.uint32)))


def _context_tokens(config: dict[str, Any]) -> int | None:
    """Return how many tokens the model was made for, `None` if it does not say."""
    for part in (config, config.get("text_config") or {}):
        if isinstance(tokens := part.get("max_position_embeddings"), int) and tokens > 0:
            return tokens
    return None


def _cause(error: BaseException) -> str:
    """Return an error as one line of bounded length, with its kind where the text says little."""
    text = " ".join(str(error).split())
    if isinstance(error, (KeyError, AttributeError, TypeError)) or not text:
        text = f"{type(error).__name__} {text}".rstrip()
    return text if len(text) <= _LONGEST_CAUSE else f"{text[:_LONGEST_CAUSE]}…"
