"""EASE of any number of items: many small inverses, each over some items and those that say most about them.

Steck 2019, "Markov Random Fields for Collaborative Filtering" (NeurIPS, arXiv 1910.09645), without its approximations
of what is inverted: the counts of a block are those of the log, so that it is positive definite as the whole is.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix, hstack
from threadpoolctl import threadpool_limits

from molar_retrieval import cholesky
from molar_retrieval.experts.item_item import strongest
from molar_retrieval.experts.taken import Taken, by_rows
from molar_retrieval.workspace import threads
from molar_retrieval.workspace.tensors import Matrix, Rows

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

    taken: Taken
    neighbours: int
    groups: list[Rows]

    @classmethod
    def of(cls, taken: Taken, neighbours: int) -> "BlockEASE":
        """Group all items that anybody took by whom they are taken with most, in the measure of a shrunk cosine."""
        size, order = max(1, neighbours // OWN), _alike(_nearest(taken))
        order = order[taken.counts[order] > 0]
        return cls(taken, neighbours, [np.sort(order[begin : begin + size]) for begin in range(0, len(order), size)])

    def weights(self, regularisation: float, partners: int, least: int = 1, folder: Path | None = None) -> csr_matrix:
        """``-P_ij / P_jj`` off the diagonal, of every item's column the ``partners`` furthest from zero, float32.

        P is the inverse of ``G + λI`` over the block of item j, λ being the ``regularisation``. Pairs that some, but
        fewer than ``least`` users had are left out. Shape (n_items, n_items), mapped from files without a name in
        ``folder``; None: in memory.
        """
        return by_rows(self._parts(regularisation, partners, least), len(self.taken.counts), folder)

    def solved(self, items: Rows, regularisation: float, partners: int, least: int = 1) -> csc_matrix:
        """The same for the items of one group, shape (n_items, len(items))."""
        together = self.taken.together(items)
        block = neighbourhood(together, items, self.taken.counts, regularisation, self.neighbours)
        weights = _solve(self.taken.among(block), np.searchsorted(block, items), regularisation)
        if least > 1:
            had = together[:, block].toarray().T
            weights[(had > 0) & (had < least)] = 0
        own = csc_matrix(strongest(weights, partners))
        shape = (together.shape[1], len(items))
        return csc_matrix((own.data, block[own.indices].astype(np.int32), own.indptr), shape=shape)

    def several(self, groups: Sequence[Rows], regularisation: float, partners: int, least: int = 1) -> csc_matrix:
        """The same for the items of several groups."""
        return csc_matrix(hstack([self.solved(items, regularisation, partners, least) for items in groups]))

    def _parts(self, regularisation: float, partners: int, least: int) -> Iterator[tuple[Rows, csc_matrix]]:
        def solved(first: int) -> tuple[Rows, csc_matrix]:
            groups = self.groups[first : first + _AT_ONCE]
            return np.concatenate(groups), self.several(groups, regularisation, partners, least)

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


def _solve(gram: Matrix, own: Rows, regularisation: float) -> Matrix:
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


def _nearest(taken: Taken) -> npt.NDArray[np.int64]:
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
