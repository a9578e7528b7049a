"""MiniLM-L6, the text part of the built-in encoder: in torch for a catalogue, in NumPy for a process that asks once.

It is a small BERT (Devlin et al. 2019, arXiv:1810.04805): embeddings, six blocks of attention and a feed-forward layer,
the mean over the tokens. Through sentence-transformers, which models that people name go through, its vectors are the
same; but the libraries that can load any model take three seconds to import, longer than a hundred items to encode.
torch alone takes seconds too; the vectors in NumPy equal the others to 1e-4.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from molar_retrieval.encoders.base import Rows, TextPreparation, memory_errors, unit

if TYPE_CHECKING:
    import torch

_BATCH = 32  # texts of like lengths, so that little is padded
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # BERT's control tokens
_EPSILON = 1e-12  # what BERT adds to a variance before it divides by its root
_EMBEDDINGS = [f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")]


def _opened(folder: Path, longest: int) -> tuple[Any, int, int, int]:
    """The folder's tokenizer, which cuts texts at ``longest`` tokens; blocks, heads of attention and width."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return tokenizer, config["num_hidden_layers"], config["num_attention_heads"], config["hidden_size"]


class MiniLM:
    """In torch, reads a sentence-transformers folder of a BERT; see :class:`.builtin.TextModel`.

    ``longest`` is the number of tokens that a text is cut at.
    """

    def __init__(self, folder: Path, device: str, longest: int) -> None:
        from safetensors.torch import load_file

        self._tokenizer, self._layers, self._heads, self.width = _opened(folder, longest)
        self._tokenizer.enable_padding()
        self._weights = load_file(folder / "model.safetensors", device=device)
        self._device = device
        self.prepare = TextPreparation(_SPECIAL)

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows, one per text."""
        import torch

        rows = np.zeros((len(texts), self.width), np.float32)
        with torch.inference_mode(), memory_errors():
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
        word, position, kind = (self._weights[name] for name in _EMBEDDINGS)
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

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(states, (self.width,), weight, bias, _EPSILON)


class NumpyMiniLM:
    """In NumPy, one text at a time, of at most ``longest`` tokens; see :func:`.builtin.text_folder` for the folder."""

    def __init__(self, folder: Path, longest: int) -> None:
        from safetensors.numpy import load_file

        self._tokenizer, self._layers, self._heads, self._width = _opened(folder, longest)
        self._weights: dict[str, Rows] = load_file(folder / "model.safetensors")
        self._prepare = TextPreparation(_SPECIAL)

    def encode(self, text: str) -> Rows:
        """A vector of length 1, or zeros where nothing is left of the text, shape (384,)."""
        prepared = self._prepare(text)
        if prepared is None:
            return np.zeros(self._width, np.float32)
        tokens = np.array(self._tokenizer.encode(prepared).ids)
        word, position, kind = (self._weights[name] for name in _EMBEDDINGS)
        states = self._normed(word[tokens] + position[: len(tokens)] + kind[0], "embeddings.LayerNorm")
        for layer in range(self._layers):
            states = self._block(states, f"encoder.layer.{layer}")
        vector: Rows = unit(states.mean(axis=0, keepdims=True))[0]
        return vector

    def _block(self, states: Rows, name: str) -> Rows:
        from scipy.special import erf

        query, key, value = (
            self._dense(states, f"{name}.attention.self.{part}")
            .reshape(len(states), self._heads, -1)
            .transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        logits = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1]).astype(np.float32)
        likely = np.exp(logits - logits.max(axis=-1, keepdims=True))
        likely /= likely.sum(axis=-1, keepdims=True)
        attended = (likely @ value).transpose(1, 0, 2).reshape(states.shape)
        attended = self._dense(attended, f"{name}.attention.output.dense")
        states = self._normed(states + attended, f"{name}.attention.output.LayerNorm")
        inner = self._dense(states, f"{name}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / np.sqrt(2).astype(np.float32)))
        return self._normed(states + self._dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _dense(self, states: Rows, name: str) -> Rows:
        result: Rows = states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _normed(self, states: Rows, name: str) -> Rows:
        mean = states.mean(axis=-1, keepdims=True)
        spread = np.sqrt(((states - mean) ** 2).mean(axis=-1, keepdims=True) + _EPSILON)
        result: Rows = (states - mean) / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result
