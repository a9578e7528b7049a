"""What embedding with a multimodal language model takes on a GPU, computed, not measured."""

from dataclasses import asdict, dataclass
from typing import Any

from molar_retrieval.errors import SettingsError, nearest

MODEL = "Qwen/Qwen3-VL-Embedding-2B"
_LANGUAGE, _VISION = 1.7e9, 0.4e9  # parameters of its two parts
_PIXELS_PER_TOKEN, _PATCHES_PER_TOKEN = 32 * 32, 4
_CHARACTERS_PER_TOKEN, _PROMPT_TOKENS = 4, 40
BUSY = 0.35
"""Share of a GPU's peak that an encoder of this size reaches."""
GPUS = {
    "T4": 65.0,
    "RTX 3090": 71.0,
    "L4": 121.0,
    "A10": 125.0,
    "RTX 4090": 165.0,
    "V100": 125.0,
    "L40S": 362.0,
    "A100": 312.0,
    "H100": 989.0,
    "H200": 989.0,
}
"""Dense 16-bit peak in teraflops, as their makers say."""
DEFAULT = "A100"


@dataclass(frozen=True)
class GpuForecast:
    """What embedding would take elsewhere.

    Attributes:
        gpu: Its name.
        model: The encoder.
        seconds: Computing time.
        items_per_second: How fast.
        disk_bytes: Of the vectors.
    """

    gpu: str
    model: str
    seconds: float
    items_per_second: float
    disk_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def gpu_named(name: str) -> str:
    """The known GPU of a name, whatever its case.

    Raises:
        SettingsError: Naming those that are known.
    """
    folded = {known.casefold().replace(" ", ""): known for known in GPUS}
    found = folded.get(name.casefold().replace(" ", ""))
    if found is None:
        close = nearest(name.upper(), GPUS, n=1)
        hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(GPUS)
        raise SettingsError(f"the GPU {name!r} is not known", hint)
    return found


def gpu_forecast(gpu: str, *, items: int, photos: int, characters: float, pixels: int, dim: int = 2048) -> GpuForecast:
    """Compute time and disk of embedding a catalogue.

    Two operations for each parameter and token; a photo is one token for every 32 × 32 pixels in the language part and
    four in the vision part.

    Args:
        gpu: A name in :data:`GPUS`.
        items: How many.
        photos: How many of them have one.
        characters: Of an item's text, on average.
        pixels: To which photos are reduced.
        dim: Of the vectors.
    """
    seen = pixels / _PIXELS_PER_TOKEN
    text = 2 * _LANGUAGE * (characters / _CHARACTERS_PER_TOKEN + _PROMPT_TOKENS)
    photo = 2 * _LANGUAGE * seen + 2 * _VISION * seen * _PATCHES_PER_TOKEN
    seconds = (items * text + photos * photo) / (GPUS[gpu] * 1e12 * BUSY)
    return GpuForecast(gpu, MODEL, seconds, items / seconds if seconds else 0.0, items * dim * 4)
