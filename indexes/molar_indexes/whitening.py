"""Items' vectors turned towards those who ask, so that a graph leads where queries go.

A graph joins items that are near each other, and a query is the vector of a user, which is like no item. Users differ
along few directions: what items have along others keeps neighbours apart and answers nothing. So items are multiplied
by the root of the users' second moments, and users by its inverse. All products stay what they are, all directions now
mean the same to users, and near items are those that the same users want (the metric is that of a query-aware loss, Guo
et al. 2020, arXiv 1908.10396).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from molar_indexes.equal_lengths import longest

Matrix = npt.NDArray[np.float32]
SAMPLE = 1024  # so many users tell enough of their directions
_RIDGE = 0.01  # of the mean, in every direction: nobody may be asked for along one that no user has
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Whitened:
    """Vectors of items, turned."""

    vectors: Matrix  # as they were, shape (n, d)
    items: Matrix  # what these are multiplied by, from the right, shape (d, d)
    users: Matrix  # what those of users are, shape (d, d)

    @classmethod
    def of(cls, vectors: Matrix, users: Matrix) -> "Whitened | None":
        """Vectors (n, d) of items turned towards users (m, d); None where these are all zeros."""
        moments = users.T.astype(np.float64) @ users
        values, directions = np.linalg.eigh(moments)
        if not values.max(initial=0) > 0:
            return None
        values /= values.max()
        roots = np.sqrt(np.maximum(values, 0) + _RIDGE * values.mean())
        items, asked = (directions * roots) @ directions.T, (directions / roots) @ directions.T
        return cls(vectors, items.astype(np.float32), asked.astype(np.float32))

    def rows(self) -> Iterator[Matrix]:
        """The vectors, one by one."""
        for block in self._blocks():
            yield from block

    @cached_property
    def longest(self) -> float:
        """The length of the longest."""
        return max(map(longest, self._blocks()), default=0.0)

    def _blocks(self) -> Iterator[Matrix]:
        return (self.vectors[n : n + _BLOCK] @ self.items for n in range(0, len(self.vectors), _BLOCK))
