"""An expert in the form that an index can hold: each item's strongest weights, and how a history is read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, diags_array

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts.histories import binary, decayed
from molar_retrieval.workspace.tensors import Array, Mask, Matrix, Rows, outside

_BLOCK = 256
"""Columns of a dense matrix that are copied at a time, as reading one alone would touch all of its memory."""

_MANY = 1 << 23
"""Weights that are not held in memory while others are counted."""
_CELLS = 1 << 20
"""Weights of columns of a sparse matrix that are looked at at a time, filled up to the longest of these."""


@dataclass(frozen=True, eq=False)
class ItemItemWeights:
    """Scores are a history times the weights from its items (rows) to all others (columns), shape (n_items, n_items).

    With a ``memory`` the ``last`` interactions of a history count, each of which loses that weight per place from the
    end, and is :func:`~molar_retrieval.experts.fading.faded` by its time before the end; without, every item counts
    once, in a long history less, by the square root of its length.
    """

    name: str
    weights: csr_matrix
    memory: float | None = None
    last: int | None = None
    fade: float = 0.0

    def read(self, log: Interactions) -> csr_matrix:
        """How much each item of the histories counts, shape (n_users, n_items), float32."""
        if self.memory is None or self.last is None:
            taken = binary(log)
            return csr_matrix(diags_array(1 / np.sqrt(np.maximum(np.diff(taken.indptr), 1)).astype(np.float32)) @ taken)
        return decayed(log, self.memory, self.last, self.fade)

    def moved(self, rows: Rows, n_items: int) -> Self:
        """The same over other items: row n is at ``rows[n]`` now, -1 where it is gone; new items have no weights."""
        return replace(self, weights=moved(self.weights, rows, n_items))

    def scores(self, log: Interactions) -> Matrix:
        """Scores of all items for each history, shape (n_users, n_items)."""
        result: Matrix = (self.read(log) @ self.weights).toarray()
        return result

    def outside(self, folder: Path) -> Self:
        """The same, the weights mapped from files without a name in a folder, where they are many."""
        weights = self.weights
        if weights.nnz < _MANY:
            return self
        arrays = [outside(values, folder) for values in (weights.data, weights.indices)]
        return replace(self, weights=csr_matrix((*arrays, weights.indptr), shape=weights.shape))

    def to_tensors(self, prefix: str) -> dict[str, Array]:
        """All but the name as arrays whose names begin with ``prefix``; no memory is an empty array."""
        reads = [] if self.memory is None or self.last is None else [self.memory, self.last, self.fade]
        return {
            f"{prefix}data": self.weights.data.astype(np.float32),
            f"{prefix}indices": self.weights.indices.astype(np.int32),
            f"{prefix}indptr": self.weights.indptr.astype(np.int64),
            f"{prefix}memory": np.array(reads, np.float64),
        }

    @classmethod
    def from_tensors(cls, name: str, tensors: Mapping[str, Array], prefix: str) -> Self:
        """The inverse of :meth:`to_tensors`; other arrays are not looked at."""
        data, indices, indptr, memory = (tensors[prefix + part] for part in ("data", "indices", "indptr", "memory"))
        n_items = len(indptr) - 1
        weights = csr_matrix((data, indices, indptr), shape=(n_items, n_items))
        if not len(memory):
            return cls(name, weights)
        decay, last, *fade = memory.tolist()  # none of former versions fades
        return cls(name, weights, decay, int(last), *fade)


def moved(matrix: csr_matrix, rows: Rows, n_items: int) -> csr_matrix:
    """A matrix of items by items whose row and column n are at ``rows[n]`` now, -1 where they are gone."""
    if len(rows) == n_items and (rows == np.arange(n_items)).all():
        return matrix
    entries = matrix.tocoo()
    row, column = rows[entries.row], rows[entries.col]
    here = (row >= 0) & (column >= 0)
    return csr_matrix((entries.data[here], (row[here], column[here])), shape=(n_items, n_items))


def strongest(weights: csr_matrix | Matrix, count: int) -> csr_matrix:
    """Of every column the ``count`` weights furthest from zero, of equally far ones those of the first rows, float32.

    Negative weights say what speaks against an item; without them a linear model ranks worse.
    """
    shape = weights.shape
    if isinstance(weights, np.ndarray):
        rows, values, lengths = _of_dense(weights, count)
    else:
        weights = weights.tocsc()  # where nobody else has them they are not there twice
        rows, values, lengths = _of_columns(weights, count)
    del weights
    borders = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return csc_matrix((values.astype(np.float32), rows, borders), shape=shape).tocsr()


def _of_dense(weights: Matrix, count: int) -> tuple[Rows, Array, Rows]:
    """Rows and values of what is kept of each column, one after the other, and of how many each."""
    rows, values, lengths = [np.zeros(0, np.int64)], [np.zeros(0, weights.dtype)], [np.zeros(0, np.int64)]
    for begin in range(0, weights.shape[1], _BLOCK):
        block = np.ascontiguousarray(weights[:, begin : begin + _BLOCK].T)
        keep = _largest(np.abs(block), count)
        rows.append(np.nonzero(keep)[1])
        values.append(block[keep])
        lengths.append(np.count_nonzero(keep, axis=1))
    return np.concatenate(rows), np.concatenate(values), np.concatenate(lengths)


def _of_columns(columns: csc_matrix, count: int) -> tuple[Rows, Array, Rows]:
    if not columns.data.all():
        columns = columns.copy()
        columns.eliminate_zeros()
    lengths = np.diff(columns.indptr)
    keep = np.ones(columns.nnz, bool)
    longer = np.flatnonzero(lengths > count)
    longer = longer[np.argsort(lengths[longer], kind="stable")]
    while len(longer):
        chosen = longer[: max(1, _CELLS // int(lengths[longer[0]]))]
        cells = np.arange(1, len(chosen) + 1) * lengths[chosen]
        chosen = chosen[: max(1, int(np.searchsorted(cells, _CELLS, side="right")))]
        place = np.arange(lengths[chosen[-1]])
        there = place < lengths[chosen, None]
        places = (columns.indptr[chosen, None] + place)[there]
        far = np.full(there.shape, -1, columns.dtype)  # beyond the end of a column: further from being kept than zero
        far[there] = np.abs(columns.data[places])
        keep[places] = _largest(far, count)[there]
        longer = longer[len(chosen) :]
    return columns.indices[keep], columns.data[keep], np.minimum(lengths, count)


def _largest(far: Matrix, count: int) -> Mask:
    """Of each row the ``count`` largest, of equal ones the first, and none that is zero or less."""
    if far.shape[1] <= count:
        return np.asarray(far > 0)
    least = np.partition(far, -count, axis=1)[:, -count, None]
    keep = np.asarray(far > np.maximum(least, 0))
    equal = (far == least) & (least > 0)
    left = count - np.count_nonzero(keep, axis=1)
    many = np.count_nonzero(equal, axis=1) > left
    equal[many] &= np.cumsum(equal[many], axis=1, dtype=np.int32) <= left[many, None]
    keep |= equal
    return keep
