"""Which BLAS MLX uses on a CPU, as the dynamic linker says for this process.

MLX's CPU build for Linux comes with the reference BLAS of Netlib. Another one replaces it if
`LD_PRELOAD` names it when the process starts.
"""

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from typing import NamedTuple

from mh_batch.jobs.errors import EnvironmentFault

PRODUCT = "cblas_sgemm"
"""The function that MLX calls to multiply float32 matrices."""

REFERENCE = "reference BLAS"
"""The name of Netlib's, which is correct and slow."""


class Blas(NamedTuple):
    """A BLAS by its name and version; `path` is the library's file, `None` where it has none."""

    name: str
    path: str | None = None

    def __str__(self) -> str:
        return self.name if self.path is None else f"{self.name} ({Path(self.path).name})"


class _Found(ctypes.Structure):
    """The result of `dladdr`: the file that an address is in, and fields that are not used here."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def blas_in_use() -> Blas | None:
    """Return the BLAS that MLX calls in this process; `None` if that cannot be found out."""
    if sys.platform == "darwin":
        return Blas("Accelerate")
    # in the linker's order: the preloaded library, then MLX's own
    for library in (None, _mlx_library()):
        try:
            loaded = ctypes.CDLL(library)
            path = _file_of(getattr(loaded, PRODUCT))
        except (OSError, AttributeError):
            continue
        if path is not None:
            return Blas(blas_name(path, _openblas(path)), path)
    return None


def blas_name(path: str, openblas: str | None) -> str:
    """Return the name of a BLAS, from its file and from what OpenBLAS reports.

    `openblas` is for example `OpenBLAS 0.3.21 Zen`, `None` for any other BLAS.
    """
    if openblas is not None:
        return openblas
    file = Path(path).name
    known = {"libmkl": "MKL", "libblis": "BLIS", "libflexiblas": "FlexiBLAS", "libblas": REFERENCE}
    return next((name for prefix, name in known.items() if file.startswith(prefix)), file)


def require_blas(path: str | None) -> None:
    """Raise `EnvironmentFault` if MLX does not use the BLAS in the file `path`.

    `None` if none was preloaded: then nothing is checked.
    """
    if path is None:
        return
    found = blas_in_use()
    if found is None or found.path is None or not _is_same(found.path, path):
        raise EnvironmentFault(
            f"preload_blas: {path} was not taken, MLX calls {found}; name a BLAS library for this "
            "machine (the last lines of worker.log may say why)"
        )


def _mlx_library() -> str | None:
    """Return MLX's own library, which carries its dependencies; `None` if there is none."""
    package = importlib.util.find_spec("mlx")
    folders = package.submodule_search_locations if package is not None else None
    found = [Path(folder) / "lib" / "libmlx.so" for folder in folders or ()]
    return next((str(path) for path in found if path.is_file()), None)


def _file_of(function: object) -> str | None:
    """Return the file that a loaded function is in."""
    found = _Found()
    address = ctypes.cast(function, ctypes.c_void_p)  # type: ignore[arg-type]
    if not ctypes.CDLL(None).dladdr(address, ctypes.byref(found)) or found.file is None:
        return None
    return str(Path(os.fsdecode(found.file)).resolve())


def _openblas(path: str) -> str | None:
    """Return version and kernels of the OpenBLAS in a file that is loaded; `None` if it is none.

    Both affect the last bits: the kernels depend on the processor.
    """
    try:
        library = ctypes.CDLL(path)
        ask = (library.openblas_get_config, library.openblas_get_corename)
    except (OSError, AttributeError):
        return None
    for function in ask:
        function.restype = ctypes.c_char_p
    config, core = ((function() or b"").decode("ascii", "replace") for function in ask)
    return " ".join([*config.split()[:2], core])


def _is_same(path: str, other: str) -> bool:
    try:
        return Path(path).samefile(Path(other).expanduser())
    except OSError:
        return False
