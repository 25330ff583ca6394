"""Finds a model's folder and checks it before anything is loaded from it, without MLX."""

import json
import re
from pathlib import Path
from typing import Any

from mh_batch.engine.demo import DEMO_MODEL
from mh_batch.jobs.did_you_mean import nearest
from mh_batch.jobs.errors import ModelNotLoaded
from mh_batch.jobs.models.names import split_name

from .weights import find_error, missing_files, weight_files

DEMO = "demo"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LIKE = "a hub name looks like mlx-community/gpt-oss-20b-MXFP4-Q8"
_LONGEST_CAUSE = 300


def find_here(name: str) -> Path | None:
    """Return the folder of a model on this machine, `None` for a hub name not downloaded yet.

    Raises `ModelNotLoaded` for a name that is none. Nothing is fetched. An adapter in the name is
    left alone.
    """
    return find_local(name) or downloaded(split_name(name).model)


def find_local(name: str) -> Path | None:
    """Return the folder that `demo` or a path stands for, `None` for a hub name.

    Raises `ModelNotLoaded` for any other name. An adapter in the name is left alone.
    """
    name = split_name(name).model
    if name == DEMO:
        return DEMO_MODEL
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        return folder
    if name.strip() and folder.exists():
        raise ModelNotLoaded(f"{name}: is a file; a model is a folder")
    if not _HUB_NAME.fullmatch(name):
        raise ModelNotLoaded(f"{name or '(no name)'}: no such folder ({_LIKE}); {_cure(name)}")
    return None


def _cure(name: str) -> str:
    if nearest(name, (DEMO,)):
        return f"did you mean {DEMO}?"
    return (
        "name another; lines that name this one take --model instead if they are submitted with "
        "--override-model"
    )


def downloaded(name: str) -> Path | None:
    """Return the folder of a hub name in the hub's cache, else `None`. Nothing is fetched."""
    from huggingface_hub import snapshot_download  # here, because most models need none

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):
        return None


def read_config(name: str, folder: Path) -> dict[str, Any]:
    """Return `config.json`, checked to be an object that names a model type.

    Raises `ModelNotLoaded` for any other.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelNotLoaded(f"{name}: no config.json in {folder}") from None
    except (OSError, ValueError) as error:
        raise ModelNotLoaded(f"{name}: config.json is not readable: {cause(error)}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelNotLoaded(f"{name}: config.json names no model_type")
    return config


def check_weights(name: str, folder: Path) -> None:
    """Raise `ModelNotLoaded`, naming a file, for a folder without complete weight files.

    The usual cause is an interrupted download.
    """
    files = weight_files(folder)
    if not files:
        raise ModelNotLoaded(f"{name}: no weights (model*.safetensors) in {folder}")
    if missing := missing_files(folder):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelNotLoaded(f"{name}: {missing[0]}{more} of its weights is not in {folder}")
    try:
        errors = [found for path in files if (found := find_error(path))]
    except OSError as error:
        raise ModelNotLoaded(f"{name}: weights are not readable: {cause(error)}") from error
    if errors:
        raise ModelNotLoaded(f"{name}: {errors[0]}")


def check_tokenizer(name: str, folder: Path) -> None:
    """Raise `ModelNotLoaded` for a folder without a tokeniser. gpt-oss needs none."""
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ModelNotLoaded(f"{name}: no tokeniser ({TOKENIZER_FILES[0]}) in {folder}")


def cause(error: BaseException) -> str:
    """Return an error as one line of bounded length, with its class where the text says little."""
    text = " ".join(str(error).split())
    if isinstance(error, (KeyError, AttributeError, TypeError)) or not text:
        text = f"{type(error).__name__} {text}".rstrip()
    return text if len(text) <= _LONGEST_CAUSE else f"{text[:_LONGEST_CAUSE]}…"
