"""The text part of the built-in encoder in NumPy, for a process that asks once: torch alone takes seconds to import.

It computes what :mod:`molar_retrieval.encoders.minilm` does; its vectors equal the encoder's to 1e-4.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval.encoders.text import TextPreparation

Rows = npt.NDArray[np.float32]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's control tokens."""
EPSILON = 1e-12
"""What BERT adds to a variance before it divides by its root."""


def tokenizer_of(folder: Path, longest: int) -> Any:
    """The folder's tokenizer, which cuts texts at ``longest`` tokens and does not pad."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return tokenizer


def shape_of(folder: Path) -> tuple[int, int, int]:
    """Blocks, heads of attention and width of the folder's model."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return config["num_hidden_layers"], config["num_attention_heads"], config["hidden_size"]


class LightMiniLM:
    """Encodes one text at a time, of at most ``longest`` tokens; see :func:`.builtin.text_folder` for the folder."""

    def __init__(self, folder: Path, longest: int) -> None:
        from safetensors.numpy import load_file

        self._tokenizer = tokenizer_of(folder, longest)
        self._weights: Mapping[str, Rows] = load_file(folder / "model.safetensors")
        self._layers, self._heads, self._width = shape_of(folder)
        self._prepare = TextPreparation(SPECIAL)

    def encode(self, text: str) -> Rows:
        """A vector of length 1, or zeros where nothing is left of the text, shape (384,)."""
        prepared = self._prepare(text)
        if prepared is None:
            return np.zeros(self._width, np.float32)
        tokens = np.array(self._tokenizer.encode(prepared).ids)
        names = ("word_embeddings", "position_embeddings", "token_type_embeddings")
        word, position, kind = (self._weights[f"embeddings.{name}.weight"] for name in names)
        states = self._normed(word[tokens] + position[: len(tokens)] + kind[0], "embeddings.LayerNorm")
        for layer in range(self._layers):
            states = self._block(states, f"encoder.layer.{layer}")
        mean = states.mean(axis=0)
        unit: Rows = (mean / np.linalg.norm(mean)).astype(np.float32)
        return unit

    def _block(self, states: Rows, name: str) -> Rows:
        from scipy.special import erf

        attended = self._dense(self._attention(states, f"{name}.attention.self"), f"{name}.attention.output.dense")
        states = self._normed(states + attended, f"{name}.attention.output.LayerNorm")
        inner = self._dense(states, f"{name}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / np.sqrt(2).astype(np.float32)))
        return self._normed(states + self._dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _attention(self, states: Rows, name: str) -> Rows:
        length, width = states.shape
        query, key, value = (
            self._dense(states, f"{name}.{part}").reshape(length, self._heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        logits = query @ key.transpose(0, 2, 1) / np.sqrt(width // self._heads).astype(np.float32)
        likely = np.exp(logits - logits.max(axis=-1, keepdims=True))
        likely /= likely.sum(axis=-1, keepdims=True)
        joined: Rows = (likely @ value).transpose(1, 0, 2).reshape(length, width)
        return joined

    def _dense(self, states: Rows, name: str) -> Rows:
        result: Rows = states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _normed(self, states: Rows, name: str) -> Rows:
        mean = states.mean(axis=-1, keepdims=True)
        spread = np.sqrt(((states - mean) ** 2).mean(axis=-1, keepdims=True) + EPSILON)
        result: Rows = (states - mean) / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result
