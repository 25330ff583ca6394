"""Which BLAS MLX calls is asked of the linker, and one that was preloaded has to be it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mh_batch.engine.model.blas import REFERENCE, Blas, blas_in_use, blas_name, require_blas
from mh_batch.jobs.errors import EnvironmentFault

linux = pytest.mark.skipif(sys.platform != "linux", reason="MLX on a Mac calls Accelerate")


@pytest.mark.parametrize(
    ("path", "openblas", "name"),
    [
        ("/v/mlx_cpu.libs/libblas-bd8a282c.so.3.10.0", None, REFERENCE),
        ("/usr/lib/x86_64-linux-gnu/blas/libblas.so.3.11.0", None, REFERENCE),
        # Debian's OpenBLAS stands there under the name of the reference
        ("/usr/lib/openblas-pthread/libblas.so.3", "OpenBLAS 0.3.21 Zen", "OpenBLAS 0.3.21 Zen"),
        ("/opt/intel/libmkl_rt.so.2", None, "MKL"),
        ("/usr/lib/blis-pthread/libblis.so.4", None, "BLIS"),
        ("/usr/lib/libmyown.so", None, "libmyown.so"),
    ],
)
def test_a_blas_is_known_by_what_it_says_and_else_by_its_file(
    path: str, openblas: str | None, name: str
) -> None:
    found = Blas(blas_name(path, openblas), path)
    assert found.name == name
    assert str(found) == f"{name} ({Path(path).name})"


@linux
def test_the_one_that_mlx_calls_is_mapped_into_this_process() -> None:
    import mlx.core  # noqa: F401

    found = blas_in_use()
    assert found is not None
    assert found.path is not None
    assert found.path in Path("/proc/self/maps").read_text()


def test_on_a_mac_it_is_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert str(blas_in_use()) == "Accelerate"


@linux
def test_a_blas_that_was_not_preloaded_is_refused(tmp_path: Path) -> None:
    require_blas(None)
    other = tmp_path / "libblas.so.3"
    other.write_text("no library")
    with pytest.raises(EnvironmentFault, match=r"preload_blas: .*libblas\.so\.3 was not taken"):
        require_blas(str(other))


ASK = (
    "import mlx.core; from mh_batch.engine.model.blas import *; "
    "require_blas({path!r}); print(blas_in_use().path)"
)


@linux
def test_a_blas_that_is_preloaded_is_the_one_that_is_called(tmp_path: Path) -> None:
    own = blas_in_use()
    assert own is not None
    assert own.path is not None
    # the same library under another name, which looks for its own libraries where the first does
    copy = tmp_path / "libanother.so"
    copy.write_bytes(Path(own.path).read_bytes())
    beside = {"LD_PRELOAD": str(copy), "LD_LIBRARY_PATH": str(Path(own.path).parent)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ASK.format(path=str(copy))],
        env={**os.environ, **beside},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f"{copy}\n", done.stderr
