"""EfficientNet-Lite0, which sees the photos of the built-in encoders, in torch alone.

Inverted residuals without squeeze-and-excitation, ReLU6 for all activations (Liu et al. 2020; Tan and Le 2019,
arXiv:1905.11946). It computes what timm's ``tf_efficientnet_lite0`` does; timm takes longer to import than it takes to
see fifty photos.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BLOCKS, _HALVING = 16, (1, 3, 5, 11)  # the blocks that halve height and width
_NORM = ("weight", "bias", "running_mean", "running_var")
_EPSILON = 1e-3  # as the weights were trained


class EfficientNetLite0:
    """Photos, shape (n, 3, height, width), into maps of features and into classes.

    ``weights`` are named as in TensorFlow's own code; ValueError says that some are missing.
    """

    def __init__(self, weights: Mapping[str, "torch.Tensor"], device: str) -> None:
        import torch

        missing = [name for name in _names() if name not in weights]
        if missing:
            raise ValueError(f"it lacks {missing[0]}")
        self._weights = {
            name: tensor.to(device, memory_format=torch.channels_last if tensor.ndim == 4 else torch.preserve_format)
            for name, tensor in weights.items()
        }

    def features(self, photos: "torch.Tensor") -> "torch.Tensor":
        """Maps of features, shape (n, 1280, height / 32, width / 32)."""
        states = self._active(self._convolved(photos, "_conv_stem", stride=2), "_bn0")
        for block in range(_BLOCKS):
            states = self._block(states, f"_blocks.{block}", 2 if block in _HALVING else 1)
        return self._active(self._convolved(states, "_conv_head"), "_bn1")

    def pooled(self, maps: "torch.Tensor") -> "torch.Tensor":
        """Their means over height and width, shape (n, 1280)."""
        from torch.nn import functional as F

        return F.adaptive_avg_pool2d(maps, 1).flatten(1)

    def logits(self, pooled: "torch.Tensor") -> "torch.Tensor":
        """Logits of the classes, shape (n, 1000)."""
        from torch.nn import functional as F

        return F.linear(pooled, self._weights["_fc.weight"], self._weights["_fc.bias"])

    def _block(self, states: "torch.Tensor", name: str, stride: int) -> "torch.Tensor":
        inner = states
        if f"{name}._expand_conv.weight" in self._weights:
            inner = self._active(self._convolved(inner, f"{name}._expand_conv"), f"{name}._bn0")
        inner = self._active(self._convolved(inner, f"{name}._depthwise_conv", stride, inner.shape[1]), f"{name}._bn1")
        inner = self._normed(self._convolved(inner, f"{name}._project_conv"), f"{name}._bn2")
        return inner + states if inner.shape == states.shape else inner

    def _convolved(self, states: "torch.Tensor", name: str, stride: int = 1, groups: int = 1) -> "torch.Tensor":
        """A convolution whose borders are TensorFlow's: where they are uneven, more is added below and to the right."""
        from torch.nn import functional as F

        kernel = self._weights[f"{name}.weight"]
        lacking = [max((-(-side // stride) - 1) * stride + kernel.shape[-1] - side, 0) for side in states.shape[:1:-1]]
        if any(lack % 2 for lack in lacking):
            states = F.pad(states, [side for lack in lacking for side in (lack // 2, lack - lack // 2)])
            lacking = [0, 0]
        around = lacking[1] // 2, lacking[0] // 2
        return F.conv2d(states, kernel, None, stride, around, groups=groups)

    def _normed(self, states: "torch.Tensor", name: str) -> "torch.Tensor":
        from torch.nn import functional as F

        weight, bias, mean, variance = (self._weights[f"{name}.{part}"] for part in _NORM)
        return F.batch_norm(states, mean, variance, weight, bias, eps=_EPSILON)

    def _active(self, states: "torch.Tensor", name: str) -> "torch.Tensor":
        from torch.nn import functional as F

        return F.relu6(self._normed(states, name), inplace=True)


def _names() -> Iterator[str]:
    """All weights that it needs; the first block alone does not expand."""
    norms = ["_bn0", "_bn1"]
    yield from ("_conv_stem.weight", "_conv_head.weight", "_fc.weight", "_fc.bias")
    for block in range(_BLOCKS):
        expanding = ["_expand_conv"] if block else []
        yield from (f"_blocks.{block}.{name}.weight" for name in [*expanding, "_depthwise_conv", "_project_conv"])
        norms += [f"_blocks.{block}.{name}" for name in (["_bn0"] if block else []) + ["_bn1", "_bn2"]]
    yield from (f"{norm}.{part}" for norm in norms for part in _NORM)
