"""torch and transformers, imported when a model is loaded: precision, devices, quiet loading, errors in plain words."""

import logging
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from molar_retrieval.encoders import trust
from molar_retrieval.errors import BackendError, MolarError
from molar_retrieval.workspace.settings import EmbedSettings

_OUT_OF_MEMORY = re.compile(r"not enough memory|out of memory|DefaultCPUAllocator|CUBLAS_STATUS_ALLOC_FAILED", re.I)
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def weights_dtype(settings: EmbedSettings, *, large: bool) -> str:
    """The format for these settings on this machine: ``float32``, ``bfloat16`` or ``float16``.

    The decision enters the fingerprint, so it is made where the encoder is described and obeyed where it is loaded.
    ``auto`` keeps small models in float32. Large ones (of language) take bfloat16 where it pays: on an accelerator, and
    on processors with bfloat16 instructions (3 to 7 times the speed of float32; without them it is slower).
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


def device(settings: EmbedSettings) -> str:
    """The torch device for these settings; a BackendError where it is not there."""
    import torch

    name = settings.device
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(kind, False):
        raise BackendError(f"there is no device {name!r} here", "name another one with embed.device, or auto")
    return name


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn every way in which torch says that memory is short into a MemoryError."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if _OUT_OF_MEMORY.search(str(error)):
            raise MemoryError(str(error)) from error
        raise


@contextmanager
def loading(model: str) -> Iterator[None]:
    """As :func:`explained`, without progress bars of the libraries' own."""
    notes = logging.getLogger("sentence_transformers")  # it warns of a default prompt, which is always overridden here
    level = notes.level
    notes.setLevel(logging.ERROR)
    try:
        with without_bars(), explained(model):
            yield
    finally:
        notes.setLevel(level)


@contextmanager
def without_bars() -> Iterator[None]:
    """Nothing is drawn by transformers as it reads or writes weights."""
    from transformers.utils import logging as transformers_logging

    bars: Any = transformers_logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


@contextmanager
def explained(model: str) -> Iterator[None]:
    """Load: all that goes wrong but a MemoryError becomes a BackendError in plain words."""
    try:
        with memory_errors():
            yield
    except (MolarError, MemoryError):
        raise
    except ImportError as error:
        raise BackendError(
            f"the model {model!r} needs a package that is not installed: {error}", "install it"
        ) from error
    except Exception as error:  # damaged files and unknown architectures raise almost anything
        first = str(error).partition("\n")[0]
        reason, hint = f"{type(error).__name__}: {first}", "try another model"
        if "trust_remote_code" in str(error):
            reason, hint = "it brings code of its own", trust.REMEDY
        raise BackendError(f"the model {model!r} cannot be loaded: {reason}", hint) from error
