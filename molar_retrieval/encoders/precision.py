"""Which number format the weights take, decided without importing torch.

The decision enters the fingerprint, so it is made where the encoder is described and obeyed where it is loaded.
"""

import os
import platform
from functools import cache
from pathlib import Path

from molar_retrieval.config import EmbedSettings

_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def resolve(settings: EmbedSettings, *, large: bool) -> str:
    """The format for these settings on this machine: ``float32``, ``bfloat16`` or ``float16``.

    ``auto`` keeps small models in float32. Large ones take bfloat16 where it pays: on an accelerator, and on
    processors with bfloat16 instructions (3 to 7 times the speed of float32; without them it is slower).

    Args:
        settings: ``dtype`` and ``device`` are read.
        large: Whether the model is of the size of a language model.
    """
    if settings.dtype != "auto":
        return settings.dtype
    if not large:
        return "float32"
    return "bfloat16" if _on_accelerator(settings.device) or _cpu_has_bfloat16() else "float32"


def _on_accelerator(device: str) -> bool:
    if device != "auto":
        return not device.startswith("cpu")
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return apple or any(Path(node).exists() for node in _ACCELERATORS)


@cache
def _cpu_has_bfloat16() -> bool:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
