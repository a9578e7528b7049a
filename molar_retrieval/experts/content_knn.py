"""Content neighbours: what a history looks like against what items look like; no other user's interactions are read."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.encoders.fusion import unit
from molar_retrieval.experts.histories import decayed
from molar_retrieval.workspace.tensors import Matrix

GRID = tuple(
    {"last": last, "decay": decay}
    for last, decay in ((1, 1.0), (3, 0.7), (5, 0.8), (10, 0.8), (10, 1.0), (30, 0.9), (100, 0.97), (300, 1.0))
)
"""Ways to read a history, from its last item alone to all of it."""
DIM = 256
"""Principal axes of the content features that are kept; fewer lose what tells variants of a product apart."""
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True, eq=False)
class ContentNeighbours:
    """Cosines between items, (n_items, dim), and the decayed mean of a history, as :func:`reading` says.

    With ``targets``, (n_items, dim), histories are not compared with what items look like but with these. Where people
    taught what makes items alike, ``axes`` are from features to items, (f, dim).
    """

    items: Matrix
    decay: float
    last: int
    targets: Matrix | None = None
    axes: Matrix | None = None

    @classmethod
    def of(cls, features: Matrix, decay: float, last: int) -> Self:
        """From the conditioned content vectors of all items, shape (n_items, f)."""
        return cls(compressed(features), decay, last)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.items.shape[1])

    @property
    def sides(self) -> Matrix:
        """What histories are compared with, shape (n_items, dim)."""
        return self.items if self.targets is None else self.targets

    def users(self, log: Interactions) -> Matrix:
        """What each history looks like, shape (n_users, dim), rows of length 1 or 0."""
        return reading(log, self.items, self.decay, self.last)

    def scores(self, log: Interactions) -> Matrix:
        """Scores of all items for each history, shape (n_users, n_items)."""
        scores: Matrix = self.users(log) @ self.sides.T
        return scores


def reading(log: Interactions, features: Matrix, decay: float, last: int) -> Matrix:
    """The direction of the decayed mean of a history's content vectors, so that a dot product is a cosine.

    Of the ``last`` interactions that count, each loses ``decay``, in (0, 1], per place from the end. Features and
    result have shapes (n_items, f) and (n_users, f), rows of length 1, or 0 without content.
    """
    return unit(decayed(log, decay, last) @ features)


def compressed(features: Matrix, axes: Matrix | None = None) -> Matrix:
    """Features along ``axes``, rows of length 1 or 0 again; None: their leading principal axes, at most 256."""
    if axes is None and features.shape[1] > DIM:
        axes = principal(features)
    rows = features if axes is None else features @ axes
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Matrix = np.divide(rows, length, out=np.zeros_like(rows), where=length > _NEGLIGIBLE)
    return found


def principal(features: Matrix) -> Matrix:
    """The leading principal axes of features, as columns, at most 256; all axes as they are where there are no more."""
    if features.shape[1] <= DIM:
        return np.eye(features.shape[1], dtype=np.float32)
    _, axes = np.linalg.eigh((features.T @ features).astype(np.float64))
    return signed(axes[:, ::-1][:, :DIM].astype(np.float32))


def signed(axes: Matrix) -> Matrix:
    """Axes, as columns, whose sign was arbitrary: the largest number of each is positive."""
    sign = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    found: Matrix = axes * sign
    return found
