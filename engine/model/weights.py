"""Checks the weight files of a model folder before anything is loaded from them."""

import json
from pathlib import Path

INDEX_NAME = "model.safetensors.index.json"
_LENGTH_BYTES = 8


def weight_files(folder: Path) -> list[Path]:
    """Return the files that mlx-lm loads weights from, sorted by name."""
    return sorted(folder.glob("model*.safetensors"))


def missing_files(folder: Path) -> list[str]:
    """Return the weight files that the folder's index names but the folder lacks.

    Nothing is missing from a folder without an index: it has a single file.
    """
    try:
        index = json.loads((folder / INDEX_NAME).read_text("utf-8"))
        named = set(index["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
    return sorted(str(name) for name in named if not (folder / str(name)).is_file())


def find_error(path: Path) -> str | None:
    """Return what is wrong with a safetensors file, `None` if it is complete.

    Only the header is read: it says how long the file must be.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        begin = _LENGTH_BYTES + length
        if size < begin:
            return f"{path.name} is cut off: {size} bytes, its header alone takes {begin}"
        try:
            header = json.loads(file.read(length))
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            end = begin + max((entry["data_offsets"][1] for entry in tensors), default=0)
        except (ValueError, AttributeError, LookupError, TypeError):
            return f"{path.name} is no safetensors file: its header does not read"
    if size < end:
        return f"{path.name} is cut off: {size} bytes of {end}"
    return None
