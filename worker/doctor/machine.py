"""The installed packages, the device, and the free disk space."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mh_batch.worker.runtime.child import PYTHON
from mh_batch.worker.text.format import GIB, MIB, format_size

from .finding import Finding, Site, failure, ok, warning

PACKAGES = ("mh-batch", "mlx", "mlx-lm", "openai-harmony")
DEVICE_SECONDS = 120
LITTLE_SPACE = 5 * GIB
NO_SPACE = 200 * MIB

# run in a process of its own: a broken driver kills the process that asks for the device
_ASK_DEVICE = "from mh_batch.engine.model.device import device; print(device())"


def versions(site: Site) -> Iterator[Finding]:  # noqa: ARG001
    """Check the installed versions."""
    found = [f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            yield failure("versions", f"{package} is not installed", f"pip install {package}")
    yield ok("versions", ", ".join(found))


def device(site: Site) -> Iterator[Finding]:  # noqa: ARG001
    """Check the device that MLX runs on."""
    try:
        asked = subprocess.run(
            [*PYTHON, "-c", _ASK_DEVICE],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DEVICE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield failure("device", f"MLX did not answer in {DEVICE_SECONDS} s", "restart the machine")
        return
    yield judge_device(sys.platform, asked.returncode, asked.stdout.strip(), asked.stderr)


def judge_device(system: str, code: int, answer: str, stderr: str) -> Finding:
    """Judge the exit code and the output of the process that asked for the device."""
    if code:
        last = (stderr.strip().splitlines() or [f"exit code {code}"])[-1]
        return failure("device", f"MLX does not start: {last}", "pip install --force-reinstall mlx")
    if system == "darwin" and not answer.startswith("gpu"):
        cure = "run an arm64 Python, on Apple silicon (`uname -m` says arm64)"
        return warning("device", f"MLX runs on {answer}, not on Metal", cure)
    return ok("device", answer)


def space(site: Site) -> Iterator[Finding]:
    """Check the free space for the database and for the logs."""
    for subject, folder in (("database", site.db.resolve().parent), ("logs", site.logs)):
        yield judge_space(subject, shutil.disk_usage(_existing(folder)).free)


def judge_space(what: str, free: int) -> Finding:
    """Judge the `free` bytes on the disk of `what`."""
    text = f"{format_size(free)} free for the {what}"
    if free < NO_SPACE:
        return failure("disk", text, "free some space: a full disk stops the worker")
    if free < LITTLE_SPACE:
        return warning("disk", text, "free some space before a long drain")
    return ok("disk", text)


def _existing(folder: Path) -> Path:
    """Return the nearest existing folder: the others are made when needed."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())
