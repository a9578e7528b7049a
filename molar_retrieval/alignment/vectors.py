"""What an alignment gives an index: vectors of users and items whose dot products are the scores."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class UserVectors:
    """Vectors of U users.

    Attributes:
        dense: Shape (U, d).
        sparse: Shape (U, s): how much each item of a history counts, once per expert.
    """

    dense: Matrix
    sparse: csr_matrix


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """Vectors of all items.

    Attributes:
        dense: Shape (n_items, d). A newcomer's is made from its content alone and ranks it among newcomers only.
        sparse: Shape (n_items, s): each item's partners, weighted; empty rows for newcomers.
        newcomer: Whether an item had no training interactions, shape (n_items,).
    """

    dense: Matrix
    sparse: csr_matrix
    newcomer: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Predictor:
    """A ridge map from content features to vectors, which guesses those of items without interactions.

    Attributes:
        matrix: Shape (f, d).
        mean: Shape (d,).
    """

    matrix: Matrix
    mean: Matrix

    def __call__(self, features: Matrix) -> Matrix:
        """Vectors of items by their content, shapes (n, f) → (n, d)."""
        result: Matrix = features @ self.matrix + self.mean
        return result
