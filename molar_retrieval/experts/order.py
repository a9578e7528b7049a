"""What is taken after what: co-occurrence with decay, which is counted, and a regression on the same counts."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags_array

from molar_retrieval import cholesky
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts.fading import faded
from molar_retrieval.experts.histories import known_items
from molar_retrieval.workspace.tensors import Matrix, Rows

_PRIOR = 20
_UNIT = 2.0**30
"""Parts of one that exact counts are rounded to."""


def followers(log: Interactions, window: int, decay: float, fade: float = 0.0) -> csr_matrix:
    """How often item j came after item i, ``decay ** (distance - 1)`` each time, shape (n_items, n_items), float64.

    Distances are counted in places, up to ``window``, and each time is :func:`~molar_retrieval.experts.fading.faded` by
    the seconds between the two. An interaction of a weaker type is that much of one. Each addend is rounded to a
    multiple of 2⁻³⁰, so that sums are the same in whatever order they are made, up to eight million occurrences of a
    pair.
    """
    shape = (log.n_items, log.n_items)
    user = log.user
    total = csr_matrix(shape, dtype=np.float64)
    for distance in range(1, min(window, len(log) - 1) + 1):
        same = user[distance:] == user[:-distance]
        pairs = log.item[:-distance][same], log.item[distance:][same]
        values = np.full(len(pairs[0]), decay ** (distance - 1))
        if fade:
            values *= faded((log.timestamp[distance:] - log.timestamp[:-distance])[same], fade)
        if log.strength is not None:
            values *= log.strength[:-distance][same] * log.strength[distance:][same]
        total = total + csr_matrix((rounded(values), pairs), shape=shape)
    return total


def rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """To multiples of 2⁻³⁰, of which sums in float64 are exact."""
    return np.rint(values * _UNIT) / _UNIT


def _counts(log: Interactions) -> npt.NDArray[np.number]:
    """Each item's interactions, as its pairs with itself: by the square of their strength."""
    return np.bincount(log.item, None if log.strength is None else log.strength**2, minlength=log.n_items)


def cooccurrence(log: Interactions, followed: csr_matrix, shrink: float, ordered: bool) -> csr_matrix:
    """``F_ij / √((n_i + shrink) (n_j + shrink))``, n being the items' counts: a shrunk cosine of what follows what.

    F is :func:`followers` of the same log, or ``F + Fᵀ`` where not only what came after i counts for i. The ``shrink``,
    > 0, keeps rare items from winning by one coincidence. Shape (n_items, n_items), float32; row i is of item i.
    """
    scale = diags_array(scales(log, shrink))
    return csr_matrix(scale @ (followed if ordered else followed + followed.T) @ scale)


def scales(log: Interactions, shrink: float) -> npt.NDArray[np.float32]:
    """``1 / √(n_i + shrink)`` of each item, shape (n_items,)."""
    found: npt.NDArray[np.float32] = (1 / np.sqrt(_counts(log) + shrink)).astype(np.float32)
    return found


@dataclass(frozen=True, eq=False)
class NextItem:
    """What comes next, by ridge regression on what came before: a linear model of order with a closed form.

    The past of a position is the decayed sum of its items, ``h_t = Σ_k d^k e(t−k)``, and W minimises
    ``Σ_t ‖e(t+1) − Wᵀ h_t‖² + λ‖W‖²``: the transition model of SLIST (Choi et al. 2021, arXiv 2103.16104). Where
    co-occurrence counts an item for all that often precedes it, the regression shares it among them.

    Only the m items with interactions enter, at the ascending rows ``columns``: their ``counts`` (m,), and how often
    one ``followed`` another, decayed (m, m).
    """

    columns: Rows
    counts: npt.NDArray[np.number]
    followed: Matrix
    decay: float

    @classmethod
    def of(cls, log: Interactions, followed: csr_matrix | Matrix, decay: float) -> Self:
        """From :func:`followers` of the same log, with this decay; a dense matrix is between known items alone.

        Its window w must hold nearly all of the weight, ``2 · decay ** (w + 1) < 1 − decay``: the matrix to be
        inverted, which is made of the same counts, is surely positive definite only then. Counts that fade with time
        leave it so: a convex law of the gap that falls to 0 is positive definite itself (Pólya's criterion), and so are
        products of such laws, element by element (Schur).
        """
        columns = np.flatnonzero(known_items(log))
        counts = _counts(log)[columns]
        if isinstance(followed, np.ndarray):
            return cls(columns, counts, followed, decay)
        between = followed[columns][:, columns].astype(np.float32)
        return cls(columns, counts, between.toarray(), decay)

    def weights(self, regularisation: float, damping: float) -> Matrix:
        """W, from items that were taken (rows) to the one that comes next (columns), shape (m, m).

        The regularisation is λ (1 − d²), in interactions. Columns are divided by ``(interactions + 20) ** damping``,
        which lifts rare items.
        """
        gram = self.followed + self.followed.T
        gram *= np.float32(self.decay)
        gram[np.diag_indices_from(gram)] += (self.counts + regularisation).astype(np.float32)
        solved: Matrix = cholesky.solve(gram, self.followed)
        solved /= np.power(self.counts + _PRIOR, damping).astype(np.float32)
        return solved
