"""EASE: item-to-item ridge regression in closed form (Steck 2019, arXiv 1905.03375), as one matrix or in blocks.

In blocks it takes any number of items: many small inverses, each over some items and those that say most about them
(Steck 2019, "Markov Random Fields for Collaborative Filtering", NeurIPS, arXiv 1910.09645), without its approximations
of what is inverted: the counts of a block are those of the log, so that it is positive definite as the whole is.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix, hstack
from threadpoolctl import threadpool_limits

from molar_retrieval import cholesky
from molar_retrieval.data.interactions import Interactions, to_csr
from molar_retrieval.errors import DataError
from molar_retrieval.models.item_item import (
    InteractionMatrix,
    binary,
    by_rows,
    known_items,
    many_pairs,
    ranges,
    side_by_side,
    strongest,
)
from molar_retrieval.workspace import threads
from molar_retrieval.workspace.tensors import Matrix, Rows
from molar_retrieval.workspace.threads import each

MAX_ITEMS = 20_000
"""Most items of EASE: time grows with the cube of their number, memory with the square (two matrices, 1.6 GB each)."""
ITEMS_PER_USER = 50
"""Items per user from which a matrix of items × items is worth its price no more …"""
SMALL = 2_000
"""… unless it is one of so few items."""
_FEW_USERS = 2  # so many times as many items make a matrix of users the cheaper one
_COLUMNS = 1024
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
        for begin in range(0, len(columns), _COLUMNS):  # as a sparse matrix it would take three times the memory
            gram[:, begin : begin + _COLUMNS] = (taken.T @ taken[:, begin : begin + _COLUMNS]).toarray()
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
    log: Interactions, weighting: str, shrink: float, n_neighbors: int, folder: Path | None = None
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
        return _knn_in_blocks(weighted, n_neighbors, folder)
    return csr_matrix(all_pairs_knn(weighted, n_neighbors, show_progress=False), dtype=np.float32)


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


def _knn_in_blocks(weighted: csr_matrix, n_neighbors: int, folder: Path | None) -> csr_matrix:
    """The same sums as the library's; of equally similar items the first ones stay, where it keeps any of them."""
    of_items, n_items = csr_matrix(weighted.T), weighted.shape[1]
    lengths = np.diff(weighted.indptr)
    pairs = np.bincount(weighted.indices, np.repeat(lengths, lengths), n_items)
    rows = np.arange(n_items)

    def nearest(block: slice) -> tuple[Rows, csc_matrix]:
        similar = csr_matrix(of_items[block] @ weighted)
        similar.sort_indices()
        return rows[block], csc_matrix(strongest(similar.T, n_neighbors))

    return side_by_side(each(nearest, ranges(pairs.astype(np.int64))), n_items, folder).T


OWN = 125
"""Neighbours that an item has at least: a block of 1,000 is that of eight items."""
_SHRINK = 20
_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class BlockEASE:
    """The weights of EASE, item by item, each from the inverse over a block of items.

    Attributes:
        taken: Who took what.
        neighbours: Items of a block, those that it is of among them.
        groups: The items that a block is of, by their rows, shape (n_groups, neighbours / 125) or less: alike, so that
            they have much of their neighbourhoods in common.
    """

    taken: InteractionMatrix
    n_neighbors: int
    groups: list[Rows]

    @classmethod
    def of(cls, taken: InteractionMatrix, n_neighbors: int) -> "BlockEASE":
        """Group all items that anybody took by whom they are taken with most, in the measure of a shrunk cosine."""
        size, order = max(1, n_neighbors // OWN), _alike(_nearest(taken))
        order = order[taken.counts[order] > 0]
        return cls(taken, n_neighbors, [np.sort(order[begin : begin + size]) for begin in range(0, len(order), size)])

    def weights(self, regularisation: float, neighbors: int, least: int = 1, folder: Path | None = None) -> csr_matrix:
        """``-P_ij / P_jj`` off the diagonal, of every item's column the ``neighbors`` furthest from zero, float32.

        P is the inverse of ``G + λI`` over the block of item j, λ being the ``regularisation``. Pairs that some, but
        fewer than ``least`` users had are left out. Shape (n_items, n_items), mapped from files without a name in
        ``folder``; None: in memory.
        """
        return by_rows(self._parts(regularisation, neighbors, least), len(self.taken.counts), folder)

    def solved(self, items: Rows, regularisation: float, neighbors: int, least: int = 1) -> csc_matrix:
        """The same for the items of one group, shape (n_items, len(items))."""
        together = self.taken.together(items)
        block = neighbourhood(together, items, self.taken.counts, regularisation, self.n_neighbors)
        weights = _solve_block(self.taken.among(block), np.searchsorted(block, items), regularisation)
        if least > 1:
            had = together[:, block].toarray().T
            weights[(had > 0) & (had < least)] = 0
        own = csc_matrix(strongest(weights, neighbors))
        shape = (together.shape[1], len(items))
        return csc_matrix((own.data, block[own.indices].astype(np.int32), own.indptr), shape=shape)

    def several(self, groups: Sequence[Rows], regularisation: float, neighbors: int, least: int = 1) -> csc_matrix:
        """The same for the items of several groups."""
        return csc_matrix(hstack([self.solved(items, regularisation, neighbors, least) for items in groups]))

    def _parts(self, regularisation: float, neighbors: int, least: int) -> Iterator[tuple[Rows, csc_matrix]]:
        def solved(first: int) -> tuple[Rows, csc_matrix]:
            groups = self.groups[first : first + _AT_ONCE]
            return np.concatenate(groups), self.several(groups, regularisation, neighbors, least)

        import scipy.linalg.lapack  # noqa: F401 - it has a BLAS of its own, whose threads are limited as well once it is there

        count = threads.allowed()
        if self.groups:
            self.taken.among(self.groups[0])  # what is counted once is, before there are threads
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(count) as pool:
            yield from pool.map(solved, range(0, len(self.groups), _AT_ONCE))


def neighbourhood(
    together: csr_matrix, items: Rows, counts: npt.NDArray[np.int64], regularisation: float, most: int
) -> npt.NDArray[np.int64]:
    """Which items say most about some ``items``, these among them, ascending, at most ``most``.

    By how much of the squares of an item's column another one explains alone, ``G_ij² / (G_jj + λ)``: ``together`` are
    the items' counts with all others, shape (len(items), n_items), ``counts`` those of all items by themselves. The
    items take turns: first the best one of each, then the second best, until there are enough.
    """
    best = []
    for row, item in enumerate(items):
        others, had = (
            part[together.indptr[row] : together.indptr[row + 1]] for part in (together.indices, together.data)
        )
        strength = had**2 / (counts[others] + regularisation)
        strength[others == item] = np.inf
        best.append(_strongest_first(others, strength, most))
    turns = np.concatenate([np.arange(len(own)) for own in best])
    others = np.concatenate(best)[np.argsort(turns, kind="stable")]
    unique, first = np.unique(others, return_index=True)
    return (unique if len(unique) <= most else np.sort(others[np.sort(first)[:most]])).astype(np.int64)


def _strongest_first(others: Rows, strength: npt.NDArray[np.floating], most: int) -> Rows:
    if len(others) > most:
        keep = np.argpartition(-strength, most - 1)[:most]
        others, strength = others[keep], strength[keep]
    return others[np.lexsort((others, -strength))]


def _solve_block(gram: Matrix, own: Rows, regularisation: float) -> Matrix:
    """Columns ``own`` of ``-P_ij / P_jj``, zero on the diagonal, P = (gram + λI)⁻¹; gram is written over."""
    gram[np.diag_indices_from(gram)] += np.float32(regularisation)
    columns = np.arange(len(own))
    ones = np.zeros((len(gram), len(own)), np.float32, order="F")
    ones[own, columns] = 1
    inverse: Matrix = cholesky.solve(gram, ones)
    weights: Matrix = inverse / -inverse[own, columns]
    weights[own, columns] = 0
    return weights


def _alike(nearest: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """All items in an order in which those come together that lead to the same ones, from each to its nearest."""
    end, length = nearest, 1
    while length < len(nearest):  # twice as far each time
        end, length = end[end], 2 * length
    # But for ties, all ways end in two items that are nearest to each other.
    return np.lexsort((nearest, nearest[nearest], np.minimum(end, nearest[end])))


def _nearest(taken: InteractionMatrix) -> npt.NDArray[np.int64]:
    """The item that is taken most with each one, by shrunk cosine, itself where there is none, shape (n_items,)."""
    scale = np.sqrt(taken.counts + _SHRINK).astype(np.float32)
    nearest = np.arange(len(scale))
    for block in taken.blocks:
        together = taken.together(block)
        items = np.arange(block.start, block.stop)[np.diff(together.indptr) > 0]
        lengths, begins = np.diff(together.indptr), together.indptr[:-1][np.diff(together.indptr) > 0]
        rows = np.repeat(np.arange(block.start, block.stop), lengths)
        likeness = together.data / scale[together.indices]
        likeness[together.indices == rows] = -1
        best = np.maximum.reduceat(likeness, begins) if len(begins) else likeness[:0]
        most = np.zeros(len(scale), np.float32)
        most[items] = best
        first = np.flatnonzero((likeness == most[rows]) & (likeness > 0))[::-1]  # of equals the first is written last
        nearest[rows[first]] = together.indices[first]
    return nearest
