"""A model's fingerprint: a hash of its files that takes seconds where a full hash takes minutes.

It covers the whole of every configuration, tokeniser and template file, and of each weight file
its name, size, safetensors header (names, types, shapes and places of all tensors) and blocks
spread evenly over it. A file of up to `BLOCKS * BLOCK_BYTES` bytes is hashed whole. In a larger
one, a change that keeps the size and touches none of the blocks is missed: a fine-tune changes
every tensor, and flipped bits on the disk are not looked for. The files of an adapter are hashed
whole.
"""

import hashlib
from pathlib import Path

from . import adapter_folder
from .weights import weight_files

BLOCKS = 64
BLOCK_BYTES = 1 << 18

_CONFIGURATION = (
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
)


def fingerprint(folder: Path, adapter: Path | None = None) -> str:
    """Return the fingerprint of the model in `folder`, a hexadecimal SHA-256.

    `adapter` is the folder of what was added to it, `None` for nothing.
    """
    digest = hashlib.sha256()
    for name in _CONFIGURATION:
        path = folder / name
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    for path in weight_files(folder):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        _add_weights(digest, path)
    if adapter is not None:
        for name in (adapter_folder.CONFIG, adapter_folder.WEIGHTS):
            _add_whole(digest, adapter / name)
    return digest.hexdigest()


def _add_whole(digest: "hashlib._Hash", path: Path) -> None:
    """Add a file's name and size and all of it."""
    digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)


def _add_weights(digest: "hashlib._Hash", path: Path) -> None:
    """Add a weight file's header and sampled blocks."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= BLOCKS * BLOCK_BYTES:
            digest.update(file.read())
            return
        prefix = file.read(8)
        digest.update(prefix)
        digest.update(file.read(min(int.from_bytes(prefix, "little"), size)))
        for block in range(BLOCKS):
            file.seek(block * (size - BLOCK_BYTES) // (BLOCKS - 1))
            digest.update(file.read(BLOCK_BYTES))
