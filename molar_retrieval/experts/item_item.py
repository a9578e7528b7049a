"""An expert in the form that an index can hold: each item's strongest weights, and how a history is read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from scipy.sparse import csr_matrix, diags_array

from molar_retrieval.arrays import Array, Matrix, Rows
from molar_retrieval.experts.histories import binary, decayed
from molar_retrieval.interactions.log import InteractionLog

_BLOCK = 256
"""Columns of a dense matrix that are copied at a time, as reading one alone would touch all of its memory."""


@dataclass(frozen=True, eq=False)
class ItemItemWeights:
    """Scores are a history times the weights from its items (rows) to all others (columns), shape (n_items, n_items).

    With a ``memory`` the ``last`` interactions of a history count, each of which loses that weight per place from the
    end; without, every item counts once, in a long history less, by the square root of its length.
    """

    name: str
    weights: csr_matrix
    memory: float | None = None
    last: int | None = None

    def read(self, log: InteractionLog) -> csr_matrix:
        """How much each item of the histories counts, shape (n_users, n_items), float32."""
        if self.memory is None or self.last is None:
            taken = binary(log)
            return csr_matrix(diags_array(1 / np.sqrt(np.maximum(np.diff(taken.indptr), 1)).astype(np.float32)) @ taken)
        return decayed(log, self.memory, self.last)

    def moved(self, rows: Rows, n_items: int) -> Self:
        """The same over other items: row n is at ``rows[n]`` now, -1 where it is gone; new items have no weights."""
        return replace(self, weights=moved(self.weights, rows, n_items))

    def scores(self, log: InteractionLog) -> Matrix:
        """Scores of all items for each history, shape (n_users, n_items)."""
        result: Matrix = (self.read(log) @ self.weights).toarray()
        return result

    def to_tensors(self, prefix: str) -> dict[str, Array]:
        """All but the name as arrays whose names begin with ``prefix``; no memory is an empty array."""
        reads = [] if self.memory is None or self.last is None else [self.memory, self.last]
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
        return cls(name, weights, float(memory[0]), int(memory[1])) if len(memory) else cls(name, weights)


def moved(matrix: csr_matrix, rows: Rows, n_items: int) -> csr_matrix:
    """A matrix of items by items whose row and column n are at ``rows[n]`` now, -1 where they are gone."""
    entries = matrix.tocoo()
    row, column = rows[entries.row], rows[entries.col]
    here = (row >= 0) & (column >= 0)
    return csr_matrix((entries.data[here], (row[here], column[here])), shape=(n_items, n_items))


def strongest(weights: csr_matrix | Matrix, count: int) -> csr_matrix:
    """Of every column the ``count`` weights furthest from zero, of equally far ones those of the first rows, float32.

    Negative weights say what speaks against an item; without them a linear model ranks worse.
    """
    kept = [_largest(rows, values, count) for rows, values in _stored(weights)]
    borders = np.concatenate([[0], np.cumsum([len(rows) for rows, _ in kept], dtype=np.int64)])
    rows = np.concatenate([np.zeros(0, np.int32), *(rows for rows, _ in kept)])
    values = np.concatenate([np.zeros(0, np.float32), *(values for _, values in kept)])
    # The columns of a matrix are the rows of its transpose.
    by_column = csr_matrix((values.astype(np.float32), rows, borders), shape=weights.shape[::-1])
    return csr_matrix(by_column.T)


def _stored(weights: csr_matrix | Matrix) -> Iterator[tuple[Array, Array]]:
    """Rows, ascending, and values of each column's weights but for zeros."""
    if isinstance(weights, np.ndarray):
        for begin in range(0, weights.shape[1], _BLOCK):
            for column in np.ascontiguousarray(weights[:, begin : begin + _BLOCK].T):
                rows = np.flatnonzero(column)
                yield rows, column[rows]
    else:
        columns = weights.tocsc()
        for begin, end in pairwise(columns.indptr):
            values = columns.data[begin:end]
            yield columns.indices[begin:end][values != 0], values[values != 0]


def _largest(rows: Array, values: Array, count: int) -> tuple[Array, Array]:
    if len(values) <= count:
        return rows, values
    far = np.abs(values)
    least = np.partition(far, -count)[-count]
    keep = far > least
    keep[np.flatnonzero(far == least)[: count - np.count_nonzero(keep)]] = True
    return rows[keep], values[keep]
