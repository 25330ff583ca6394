"""The device that MLX runs on."""

import platform

import mlx.core as mx


def device() -> str:
    """Return the device that MLX runs on, such as `gpu: Apple M3 Max` or `cpu: AMD EPYC`."""
    kind = str(mx.default_device().type).rpartition(".")[2]
    about = mx.device_info()
    return f"{kind}: {about.get('device_name') or about.get('architecture') or platform.machine()}"
