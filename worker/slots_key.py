"""What a verdict about slots holds for."""

from mh_batch.engine.slots.version import SLOTS_VERSION
from mh_batch.jobs.generation import ModelInfo
from mh_batch.jobs.selftest import SelftestKey

VERSIONS = ("mlx", "mlx-lm", "blas")
"""What results depend on beside our own code, of the versions that a model is loaded with."""


def selftest_key(info: ModelInfo, parallel: int) -> SelftestKey:
    """Return the key of a verdict about a loaded model in so many slots."""
    return SelftestKey(
        device=info.hardware or info.device,
        versions={name: info.versions.get(name, "unknown") for name in VERSIONS},
        model_fingerprint=info.fingerprint,
        parallel=parallel,
        engine=SLOTS_VERSION,
    )
