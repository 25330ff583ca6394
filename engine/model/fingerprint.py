"""A model's fingerprint: a hash of its files that takes seconds where a full hash takes minutes.

It covers the whole of every configuration, tokeniser and template file, and of each weight file
its name, size, safetensors header (names, types, shapes and places of all tensors) and blocks
spread evenly over it. A file of up to `BLOCKS * BLOCK_BYTES` bytes is hashed whole. In a larger
one, a change that keeps the size and touches none of the blocks is missed: a fine-tune changes
every tensor, and flipped bits on the disk are not looked for.
"""

import hashlib
from pathlib import Path

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


def fingerprint(folder: Path) -> str:
    """Return the fingerprint of the model in `folder`, a hexadecimal SHA-256."""
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
    return digest.hexdigest()


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
