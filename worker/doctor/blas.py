"""The BLAS that MLX uses for matrix products on a CPU: one of them is slow."""

import os
import subprocess
from collections.abc import Iterator

from mh_batch.engine.model.blas import REFERENCE
from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.worker.model_process.preload import PACKAGE, openblas_path, preloading
from mh_batch.worker.runtime.child import PYTHON

from .finding import Finding, Site, failure, ok, refused, warning

ASK_SECONDS = 120

_SLOW = f"{REFERENCE} is MLX's own on Linux, correct but slow"
# run in a process that is started like the model process
_ASK = (
    "from mh_batch.engine.model.device import device; "
    "from mh_batch.engine.model.blas import blas_in_use; "
    "print(device()); print(blas_in_use())"
)


def blas(site: Site) -> Iterator[Finding]:
    """Check which BLAS the model process uses."""
    try:
        env = {**os.environ, **preloading(site.preload_blas)}
    except EnvironmentFault as error:
        yield refused("blas", error, "correct preload_blas in mh-batch.toml")
        return
    command = [*PYTHON, "-c", _ASK]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=ASK_SECONDS, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        # the device check reports it, unless it is the BLAS
        if site.preload_blas is not None:
            text = f"with {site.preload_blas} MLX does not start"
            yield failure("blas", text, "remove preload_blas from mh-batch.toml")
        return
    device, found = asked.stdout.splitlines()[-2:]
    yield judge_blas(device, found, site.preload_blas)


def judge_blas(device: str, found: str, preloaded: str | None) -> Finding:
    """Judge that MLX on `device` uses the BLAS `found`, while `preloaded` was to be used."""
    if device.startswith("gpu"):
        return ok("blas", f"none is used: MLX runs on {device}")
    if found.startswith(REFERENCE):
        if preloaded is not None:
            cure = "name another BLAS file for this machine"
            return failure("blas", f"{preloaded} is not used, MLX uses {found}", cure)
        return warning(
            "blas", f"{_SLOW}: another one prefills prompts several times as fast", _cure()
        )
    return ok("blas", found)


def _cure() -> str:
    there = openblas_path().exists()
    install = f"{PACKAGE} is installed: set" if there else f"apt-get install {PACKAGE}, then set"
    return (
        f'{install} preload_blas = "{openblas_path()}" below [engine] in mh-batch.toml, before a '
        "batch begins (it may change tokens)"
    )
