"""Where and how precisely the network computes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from molar_retrieval.errors import SettingsError


def pick_device(name: str) -> torch.device:
    """The device that a setting names, SettingsError without it; ``auto``: CUDA where there is any, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"the device {name!r} is not available: {error}", "use device = 'auto' or 'cpu'") from error
    return device


def pick_precision(setting: str, device: torch.device) -> str:
    """``bfloat16`` where the hardware multiplies it natively, else ``float32``; a named precision is taken as it is."""
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bfloat16" if device.type == "cpu" and supported() else "float32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Matrix products in ``precision`` inside the context; losses stay in float32 by their own means."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many CPU threads, put back afterwards; None: as many as there are."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
