"""Another BLAS for the model process, instead of the one in MLX's build for Linux."""

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
    """Return the environment variables that make a process use the BLAS at `path`.

    Empty for `None`. Raises `EnvironmentFault` if there is no such file, for a name that the linker
    would split, and on systems where MLX's BLAS cannot be replaced.
    """
    if path is None:
        return {}
    if not system.startswith("linux"):
        raise EnvironmentFault("preload_blas: for Linux only; on a Mac MLX uses Apple's Accelerate")
    library = Path(path).expanduser().absolute()
    if not library.is_file():
        raise EnvironmentFault(f"preload_blas: {path}: no such file; apt-get install {PACKAGE}")
    if _SEPARATORS & set(str(library)):
        raise EnvironmentFault(
            f"preload_blas: {path}: {_VARIABLE} cannot hold a path with a space or a colon; "
            "use a link with another name"
        )
    others = os.environ.get(_VARIABLE)
    return {_VARIABLE: f"{library}:{others}" if others else str(library)}


def openblas_path() -> Path:
    """Return where `PACKAGE` installs its library on this kind of machine."""
    kind = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    return Path("/usr/lib") / kind / "openblas-pthread" / "libopenblas.so.0"
