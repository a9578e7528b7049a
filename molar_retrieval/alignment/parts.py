"""The addends of a score, each able to score all items for all validation cases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval.experts.trend import Trend

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Part(Protocol):
    """One addend of a score for C cases and all items."""

    def scores(self, cases: slice | Rows) -> Matrix:
        """Scores of a range or some numbers of the cases, shape (cases, n_items), in an array of the caller's own."""
        ...


@dataclass(frozen=True, eq=False)
class Dense:
    """Dot products of user vectors (C, d) with item vectors (n_items, d)."""

    users: Matrix
    items: Matrix

    def scores(self, cases: slice | Rows) -> Matrix:
        """See :class:`Part`."""
        result: Matrix = self.users[cases] @ self.items.T
        return result


@dataclass(frozen=True, eq=False)
class Counted:
    """What histories (C, n_items) say of their items' partners (n_items, n_items), both sparse."""

    histories: csr_matrix
    partners: csr_matrix

    def scores(self, cases: slice | Rows) -> Matrix:
        """See :class:`Part`."""
        result: Matrix = (self.histories[cases] @ self.partners).toarray()
        return result


@dataclass(frozen=True, eq=False)
class Momentary:
    """How popular items are at the moment of each case, shape (C,), in seconds."""

    trend: Trend
    times: Rows

    def scores(self, cases: slice | Rows) -> Matrix:
        """See :class:`Part`."""
        return self.trend.log_scores(self.times[cases])


def weighted(parts: Mapping[str, Part], weights: Mapping[str, float], cases: slice) -> Matrix:
    """The sum of the parts by their weights; parts without a weight are not computed."""
    total: Matrix | None = None
    for name, part in parts.items():
        if weights.get(name):
            scores = part.scores(cases)
            scores *= np.float32(weights[name])
            total = scores if total is None else np.add(total, scores, out=total)
    if total is None:
        raise ValueError("no part has a weight")
    return total
