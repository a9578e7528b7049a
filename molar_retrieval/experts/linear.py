"""Linear item-to-item models: EASE, which inverts a matrix, and item neighbours, which take any number of items."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from molar_retrieval import cholesky
from molar_retrieval.data.interactions import Interactions, to_csr
from molar_retrieval.errors import DataError
from molar_retrieval.experts.histories import binary, known_items
from molar_retrieval.experts.item_item import strongest
from molar_retrieval.experts.taken import many_pairs, ranges, side_by_side
from molar_retrieval.workspace.tensors import Matrix, Rows
from molar_retrieval.workspace.threads import each

MAX_ITEMS = 20_000
"""Most items of EASE: time grows with the cube of their number, memory with the square (two matrices, 1.6 GB each)."""
ITEMS_PER_USER = 50
"""Items per user from which a matrix of items × items is worth its price no more …"""
SMALL = 2_000
"""… unless it is one of so few items."""
_FEW_USERS = 2  # so many times as many items make a matrix of users the cheaper one
_BLOCK = 1024
_USERS = 1 << 16
"""Whose interactions are weighed at a time."""


@dataclass(frozen=True, eq=False)
class EASECounts:
    """A linear item-to-item model with a closed form (Steck 2019, arXiv 1905.03375), before its regularisation.

    Only the m items with interactions enter, at the ascending rows ``columns``; ``gram``, shape (m, m), says by how
    many users two of them were taken, and ``taken``, shape (n_users, m), by which ones, where these are known.
    """

    columns: Rows
    gram: Matrix
    taken: csr_matrix | None = None

    @classmethod
    def of(cls, log: Interactions) -> Self:
        """Count; DataError if more than 20,000 items have interactions."""
        columns = np.flatnonzero(known_items(log))
        if len(columns) > MAX_ITEMS:
            raise DataError(
                f"EASE inverts a matrix of {len(columns):,} × {len(columns):,} items; its limit is {MAX_ITEMS:,}",
                "use item neighbours (item-kNN) instead",
            )
        taken = binary(log)[:, columns].tocsc()
        gram = np.empty((len(columns), len(columns)), np.float32)
        for begin in range(0, len(columns), _BLOCK):  # as a sparse matrix it would take three times the memory
            gram[:, begin : begin + _BLOCK] = (taken.T @ taken[:, begin : begin + _BLOCK]).toarray()
        return cls(columns, gram, taken.tocsr())

    def weights(self, regularisation: float) -> Matrix:
        """B, which predicts each of the m items from all others, shape (m, m); see :func:`solve`."""
        if self.taken is not None and _FEW_USERS * self.taken.shape[0] < self.taken.shape[1]:
            return solve_by_users(self.taken, regularisation)
        return solve(self.gram, regularisation)


def solve(gram: Matrix, regularisation: float) -> Matrix:
    """Ridge regression with a zero diagonal: ``B_ij = -P_ij / P_jj`` off the diagonal, P = (G + λI)⁻¹, shape (m, m).

    ``gram`` holds the co-occurrences G = XᵀX, shape (m, m), and stays as it is; ``regularisation`` is λ > 0. DataError
    if G + λI is not positive definite in float32.
    """
    lower = np.array(gram, np.float32, order="F")
    lower[np.diag_indices_from(lower)] += regularisation
    try:
        return _without_diagonal(cholesky.inverse(lower))
    except np.linalg.LinAlgError as error:
        raise DataError(
            "EASE: the co-occurrence matrix is not positive definite", "raise its regularisation"
        ) from error


def solve_by_users(taken: csr_matrix, regularisation: float) -> Matrix:
    """The same as :func:`solve` of XᵀX, by a matrix of users: less work where these are far fewer than the items.

    By Woodbury's identity ``λP = I - Xᵀ(XXᵀ + λI)⁻¹X``. ``taken`` is X, shape (n_users, m); the result (m, m).
    """
    common = np.asarray((taken @ taken.T).toarray(), np.float32)
    common[np.diag_indices_from(common)] += regularisation
    weights: Matrix = cholesky.quadratic_form(common, np.asarray(taken.toarray(order="F"), np.float32, order="F"))
    np.subtract(0, weights, out=weights)
    weights[np.diag_indices_from(weights)] += 1
    return _without_diagonal(weights)


def _without_diagonal(inverse: Matrix) -> Matrix:
    """``-P_ij / P_jj`` off the diagonal, in place."""
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0)
    return inverse


def item_knn(
    log: Interactions, weighting: str, shrink: float, neighbours: int, folder: Path | None = None
) -> csr_matrix:
    """Each item's most similar items (Sarwar et al. 2001, doi:10.1145/371920.372071), itself among them, as its row.

    ``cosine`` and ``tfidf`` columns are divided by ``√(Σ x² + shrink · mean x²)``, so that items taken by one and the
    same person are not taken for twins; with a shrink of 0 they and ``bm25`` are `implicit`'s recommenders of these
    names. Interactions count with their weights. The result has shape (n_items, n_items), float32. What has to be
    counted in blocks is mapped from files without a name in ``folder``; None: in memory.
    """
    from implicit.nearest_neighbours import all_pairs_knn

    weighted = _weighted(log, weighting, shrink)
    if many_pairs(log):
        return _knn_in_blocks(weighted, neighbours, folder)
    return csr_matrix(all_pairs_knn(weighted, neighbours, show_progress=False), dtype=np.float32)


def _weighted(log: Interactions, weighting: str, shrink: float) -> csr_matrix:
    """Users × items, of which the products of two columns are similarities."""
    from implicit.nearest_neighbours import bm25_weight, tfidf_weight

    counts = to_csr(log).astype(np.float64)
    if weighting == "bm25":
        return csr_matrix(bm25_weight(counts.T, K1=1.2, B=0.75).T)
    if weighting == "tfidf":
        for begin in range(0, log.n_users, _USERS):  # the library copies what it weighs, several times
            some = slice(counts.indptr[begin], counts.indptr[min(begin + _USERS, log.n_users)])
            counts.data[some] = csr_matrix(tfidf_weight(counts[begin : begin + _USERS].T).T).data
    squares = counts.data**2
    lengths = np.sqrt(np.bincount(counts.indices, squares, log.n_items) + shrink * squares.mean())
    counts.data *= np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)[counts.indices]
    return counts


def _knn_in_blocks(weighted: csr_matrix, neighbours: int, folder: Path | None) -> csr_matrix:
    """The same sums as the library's; of equally similar items the first ones stay, where it keeps any of them."""
    of_items, n_items = csr_matrix(weighted.T), weighted.shape[1]
    lengths = np.diff(weighted.indptr)
    pairs = np.bincount(weighted.indices, np.repeat(lengths, lengths), n_items)
    rows = np.arange(n_items)

    def nearest(block: slice) -> tuple[Rows, csc_matrix]:
        similar = csr_matrix(of_items[block] @ weighted)
        similar.sort_indices()
        return rows[block], csc_matrix(strongest(similar.T, neighbours))

    return side_by_side(each(nearest, ranges(pairs.astype(np.int64))), n_items, folder).T
