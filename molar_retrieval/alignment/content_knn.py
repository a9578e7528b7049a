"""Content neighbours as a part of the score: what a history looks like against what an item looks like."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.experts.content import reading
from molar_retrieval.interactions.log import InteractionLog

Matrix = npt.NDArray[np.float32]
DIM = 256
"""Principal axes of the content features that are kept; fewer lose what tells variants of a product apart."""


@dataclass(frozen=True, eq=False)
class ContentNeighbours:
    """Cosines between items and the decayed mean of a history, in few dimensions.

    Attributes:
        items: Content of all items, shape (n_items, dim), rows of length 1 or 0.
        decay: Weight lost per place from the end of a history.
        last: How many of the latest interactions count.
    """

    items: Matrix
    decay: float
    last: int

    @classmethod
    def of(cls, features: Matrix, decay: float, last: int) -> Self:
        """From the conditioned content vectors of all items, shape (n_items, f)."""
        return cls(compressed(features), decay, last)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.items.shape[1])

    def users(self, log: InteractionLog) -> Matrix:
        """What each history looks like, shape (n_users, dim), rows of length 1 or 0."""
        return reading(log, self.items, self.decay, self.last)


def compressed(features: Matrix) -> Matrix:
    """Features along their leading principal axes, at most 256, rows of length 1 or 0 again."""
    if features.shape[1] > DIM:
        features = features @ principal(features)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit: Matrix = np.divide(features, length, out=np.zeros_like(features), where=length > 1e-6)
    return unit


def principal(features: Matrix) -> Matrix:
    """The leading principal axes of features, as columns, at most 256; all axes as they are where there are no more."""
    if features.shape[1] <= DIM:
        return np.eye(features.shape[1], dtype=np.float32)
    _, axes = np.linalg.eigh((features.T @ features).astype(np.float64))
    leading = axes[:, ::-1][:, :DIM]
    sign = np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(DIM)])  # it is arbitrary
    found: Matrix = (leading * sign).astype(np.float32)
    return found
