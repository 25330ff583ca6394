"""Another BLAS for the model process, in place of the one that MLX's build for Linux carries."""

import os
import sys
import sysconfig
from pathlib import Path

from mh_batch.jobs.errors import EnvironmentFault

PACKAGE = "libopenblas0-pthread"
"""Debian's and Ubuntu's name of OpenBLAS with threads."""

_VARIABLE = "LD_PRELOAD"
_SEPARATORS = frozenset(" :")


def preloading(path: str | None, system: str = sys.platform) -> dict[str, str]:
    """Return what the environment of a process needs that is to call the BLAS at `path`.

    `None` needs nothing. Raises `EnvironmentFault` if there is no such file, for a name that the
    linker would split, and where MLX calls no library that could be replaced.
    """
    if path is None:
        return {}
    if not system.startswith("linux"):
        raise EnvironmentFault("preload_blas: is for Linux; on a Mac MLX uses Apple's Accelerate")
    library = Path(path).expanduser().absolute()
    if not library.is_file():
        raise EnvironmentFault(f"preload_blas: {path}: no such file; apt-get install {PACKAGE}")
    if _SEPARATORS & set(str(library)):
        raise EnvironmentFault(
            f"preload_blas: {path}: {_VARIABLE} takes no path with a space or a colon; "
            "name it through a link without"
        )
    others = os.environ.get(_VARIABLE)
    return {_VARIABLE: f"{library}:{others}" if others else str(library)}


def openblas_path() -> Path:
    """Return where `PACKAGE` puts its library on a machine of this kind, whether it is there."""
    kind = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    return Path("/usr/lib") / kind / "openblas-pthread" / "libopenblas.so.0"
