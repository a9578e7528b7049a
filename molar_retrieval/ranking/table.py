"""What ranking reads of every item: arrays that a generation keeps on disk and maps into memory.

The index finds candidates; what is to be known of a few hundred of them is read here, as a row of a mapped array costs
microseconds and a stored vector that comes back through a database client a hundred times as much.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.index import SparseVector, Vector
from molar_retrieval.ranking.answer import Spans

Array = npt.NDArray[Any]
Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Partners:
    """The sparse vectors of all items, by dimension: which items have a number there.

    Attributes:
        starts: Where each dimension begins, and at last the end, shape (width + 1,).
        items: Item rows, shape (entries,).
        values: Numbers, shape (entries,).
    """

    starts: Array
    items: Array
    values: Array

    def entries(self, dimensions: Rows) -> tuple[Rows, Array, Array]:
        """Of some dimensions: the place among them, the item and the number of each entry."""
        begin = np.asarray(self.starts[dimensions], np.int64)
        counts = np.asarray(self.starts[dimensions + 1], np.int64) - begin
        owner = np.repeat(np.arange(len(dimensions)), counts)
        places = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts - begin, counts)
        return owner, self.items[places], self.values[places]


@dataclass(frozen=True, eq=False)
class ItemTable:
    """All items as ranking sees them.

    Attributes:
        dense: The vectors ``aligned``, or ``newcomers`` of items without training interactions, shape (n, d).
        partners: The sparse vectors beside them.
        content: What items look like, rows of length 1 or 0, shape (n, f).
        parts: Span of each addend of a score within the dense vectors.
        sparse_parts: The same within the sparse ones.
    """

    dense: Matrix
    partners: Partners
    content: Matrix
    parts: Spans
    sparse_parts: Spans

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def names(self) -> tuple[str, ...]:
        """The parts of a score in the order in which they are returned."""
        return (*self.parts, *self.sparse_parts)

    def split(self, vector: Vector, sparse: SparseVector, rows: Rows) -> Array:
        """The addends of the scores of some items for one user, shape (len(rows), P), in the order of :attr:`names`.

        Args:
            vector: The user's dense vector.
            sparse: The sparse one beside it.
            rows: Of items, each once.
        """
        products = self.dense[rows] * np.asarray(vector, np.float64)
        columns = [products[:, start:stop].sum(axis=1) for start, stop in self.parts.values()]
        if self.sparse_parts:
            columns += self._sparse_columns(sparse, rows)
        return np.stack(columns, axis=1)

    def _sparse_columns(self, sparse: SparseVector, rows: Rows) -> list[Array]:
        dimensions, readings = np.asarray(sparse.indices, np.int64), np.asarray(sparse.values, np.float64)
        dimensions = dimensions[: np.searchsorted(dimensions, len(self.partners.starts) - 1)]
        owner, items, values = self.partners.entries(dimensions)
        place = np.full(len(self), -1, np.int32)
        place[rows] = np.arange(len(rows), dtype=np.int32)
        wanted = np.flatnonzero(place[items] >= 0)
        owner, places = owner[wanted], place[items[wanted]]
        products = readings[owner] * values[wanted]
        columns = []
        for start, stop in self.sparse_parts.values():
            first, last = np.searchsorted(owner, np.searchsorted(dimensions, [start, stop]))
            columns.append(np.bincount(places[first:last], products[first:last], minlength=len(rows)))
        return columns

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], parts: Spans, sparse_parts: Spans) -> Self:
        """From arrays by name: ``dense``, ``content``, ``partners.starts`` and so on."""
        partners = Partners(*(tensors[f"partners.{name}"] for name in ("starts", "items", "values")))
        return cls(tensors["dense"], partners, tensors["content"], parts, sparse_parts)
