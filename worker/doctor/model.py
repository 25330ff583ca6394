"""The Harmony vocabulary, the model's folder, and the memory for it."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from mh_batch.jobs.errors import EnvironmentFault, ModelNotLoaded
from mh_batch.worker.text.format import format_size

from .finding import Finding, Site, failure, ok, refused, warning

_DOWNLOAD_AGAIN = "download the model again; complete files are not downloaded twice"
_NAME_ONE = "name one with --model, MH_BATCH_MODEL or `model` in mh-batch.toml (demo to try it)"


def vocabulary(site: Site) -> Iterator[Finding]:
    """Check that o200k_base is there and unchanged, if the model is a gpt-oss, which needs it."""
    if site.model is None or not _is_harmony(site.model):
        return
    from mh_batch.engine.harmony.vocabulary import (
        BASE_VARIABLE,
        FILE_NAME,
        is_intact,
        vocabulary_folder,
    )

    own = os.environ.get(BASE_VARIABLE)
    try:
        folder = Path(own) if own else vocabulary_folder()
    except EnvironmentFault as error:
        yield refused("vocabulary", error, f"set {BASE_VARIABLE} to a folder with {FILE_NAME}")
        return
    if is_intact(folder / FILE_NAME):
        yield ok("vocabulary", f"o200k_base in {folder}")
    else:
        cure = f"unset {BASE_VARIABLE} to use the one that comes with the program"
        yield failure("vocabulary", f"no complete {FILE_NAME} in {folder}", cure)


def model(site: Site) -> Iterator[Finding]:
    """Check that the model's folder is complete and that its weights fit into memory."""
    memory = psutil.virtual_memory()
    text = f"{format_size(memory.total)} in all, {format_size(memory.available)} available"
    from mh_batch.engine.model.adapter_folder import WEIGHTS, find_adapter
    from mh_batch.engine.model.folder import find_here
    from mh_batch.engine.model.weights import weight_files

    if site.model is None:
        yield warning("model", "none is named here", _NAME_ONE)
        yield ok("memory", text)
        return
    try:
        adapter = find_adapter(site.model)
        folder = find_here(site.model)
        if folder is None:
            cure = "`mh-batch work` downloads it; start it while you can watch"
            yield warning("model", f"{site.model} is not on this machine", cure)
            yield ok("memory", text)
            return
        architecture = _inspect(site.model, folder)
    except ModelNotLoaded as error:
        yield refused("model", error, _DOWNLOAD_AGAIN)
        yield ok("memory", text)
        return
    files = [*weight_files(folder), *([] if adapter is None else [adapter / WEIGHTS])]
    weights = sum(path.stat().st_size for path in files)
    yield ok("model", f"{site.model} ({architecture}), complete, {format_size(weights)} of weights")
    yield judge_memory(weights, memory.total, memory.available)


def judge_memory(weights: int, total: int, available: int) -> Finding:
    """Judge the size of the weights on a machine with this much memory."""
    text = (
        f"{format_size(total)} in all, {format_size(available)} available, "
        f"{format_size(weights)} for the weights"
    )
    if weights > total * 0.9:
        return failure("memory", text, "choose a smaller model, or one with fewer bits per weight")
    if weights > available * 0.9:
        return warning("memory", text, "close other programs before the drain")
    return ok("memory", text)


def _is_harmony(name: str) -> bool:
    """Whether a model is read by the Harmony vocabulary; one that is not here, by its name."""
    from mh_batch.engine.adapter_choice import HARMONY, adapter_name
    from mh_batch.engine.model.folder import find_here, read_config

    try:
        folder = find_here(name)
        if folder is not None:
            return adapter_name(str(read_config(name, folder)["model_type"])) == HARMONY
    except ModelNotLoaded:
        pass  # `model` says what is wrong with it
    return "gpt-oss" in name.lower()


def _inspect(name: str, folder: Path) -> str:
    """Return the architecture of a complete model; raises `ModelNotLoaded` for any other."""
    from mh_batch.engine.adapter_choice import NATIVE, adapter_name
    from mh_batch.engine.model.folder import check_tokenizer, check_weights, read_config

    architecture = str(read_config(name, folder)["model_type"])
    check_weights(name, folder)
    if adapter_name(architecture) == NATIVE:
        check_tokenizer(name, folder)
    return architecture
