"""The device that MLX runs on."""

import platform

import mlx.core as mx


def device() -> str:
    """Return the device that MLX runs on, such as `gpu: Apple M3 Max` or `cpu: AMD EPYC`."""
    kind = str(mx.default_device().type).rpartition(".")[2]
    about = mx.device_info()
    return f"{kind}: {about.get('device_name') or about.get('architecture') or platform.machine()}"


def hardware() -> str:
    """Return the device with all that MLX says of its kind, which tells more than the name.

    Of two GPUs with the same name and different numbers of cores, as of an M3 Max, MLX does not
    tell the number, but they come with different amounts of memory.
    """
    about = mx.device_info()
    known = (about.get(key) for key in ("architecture", "memory_size"))
    return ", ".join([device(), *(str(value) for value in known if value)])
