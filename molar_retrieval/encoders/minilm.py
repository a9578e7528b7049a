"""MiniLM-L6, the text part of the built-in encoder, in torch alone.

It is a small BERT (Devlin et al. 2019, arXiv:1810.04805): embeddings, six blocks of attention and a feed-forward layer,
the mean over the tokens. Through sentence-transformers, which models that people name go through, its vectors are the
same; but the libraries that can load any model take three seconds to import, longer than a hundred items to encode.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from molar_retrieval.encoders import runtime
from molar_retrieval.encoders.fusion import Rows, unit
from molar_retrieval.encoders.light import EPSILON, SPECIAL, shape_of, tokenizer_of
from molar_retrieval.encoders.text import TextPreparation

if TYPE_CHECKING:
    import torch

_BATCH = 32  # texts of like lengths, so that little is padded


class MiniLM:
    """Reads a sentence-transformers folder of a BERT; see :class:`molar_retrieval.encoders.composite.TextModel`.

    ``longest`` is the number of tokens that a text is cut at.
    """

    def __init__(self, folder: Path, device: str, longest: int) -> None:
        from safetensors.torch import load_file

        self._tokenizer = tokenizer_of(folder, longest)
        self._tokenizer.enable_padding()
        self._layers, self._heads, self.width = shape_of(folder)
        self._weights = load_file(folder / "model.safetensors", device=device)
        self._device = device
        self.prepare = TextPreparation(SPECIAL)

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows, one per text."""
        import torch

        rows = np.zeros((len(texts), self.width), np.float32)
        with torch.inference_mode(), runtime.memory_errors():
            longest_first = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
            for start in range(0, len(texts), _BATCH):
                places = longest_first[start : start + _BATCH]
                rows[places] = self._means([texts[place] for place in places]).float().cpu().numpy()
        return unit(rows)

    def _means(self, texts: list[str]) -> torch.Tensor:
        """The mean over the tokens of each text, shape (len(texts), width)."""
        import torch

        tokens = self._tokenizer.encode_batch(texts)
        ids = torch.tensor([text.ids for text in tokens], device=self._device)
        real = torch.tensor([text.attention_mask for text in tokens], device=self._device) != 0
        word, position, kind = (
            self._weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        )
        states = self._normed(word[ids] + kind[0] + position[: ids.shape[1]], "embeddings.LayerNorm")
        for layer in range(self._layers):
            states = self._block(states, real[:, None, None, :], f"encoder.layer.{layer}")
        counted = real[..., None].float()
        return (states * counted).sum(1) / counted.sum(1)

    def _block(self, states: torch.Tensor, real: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional as F

        query, key, value = (
            self._dense(states, f"{name}.attention.self.{part}")
            .view(*states.shape[:2], self._heads, -1)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=real).transpose(1, 2).flatten(2)
        attended = self._dense(attended, f"{name}.attention.output.dense")
        states = self._normed(states + attended, f"{name}.attention.output.LayerNorm")
        inner = F.gelu(self._dense(states, f"{name}.intermediate.dense"))
        return self._normed(states + self._dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _dense(self, states: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional as F

        return F.linear(states, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _normed(self, states: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional as F

        return F.layer_norm(
            states, (self.width,), self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], EPSILON
        )
