"""What ranking reads of every item: arrays that a generation keeps on disk and maps into memory.

The index finds candidates; what is to be known of a few hundred of them is read here, as a row of a mapped array costs
microseconds and a stored vector that comes back through a database client a hundred times as much.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

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
        support: How many people had both the item and the one that the dimension stands for, shape (entries,).
    """

    starts: Array
    items: Array
    values: Array
    support: Array

    def __len__(self) -> int:
        return len(self.starts) - 1

    def read(self, begins: Rows, ends: Rows) -> Array:
        """The items of some ranges of entries, one after the other."""
        pieces = [self.items[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        return np.concatenate(pieces) if pieces else self.items[:0]


@dataclass(frozen=True, eq=False)
class ItemTable:
    """All items as ranking sees them.

    Attributes:
        dense: The vectors ``aligned``, or ``newcomers`` of items without training interactions, shape (n, d).
        partners: The sparse vectors beside them.
        content: What items look like, rows of length 1 or 0, shape (n, f).
        cf: ALS factors, shape (n, c).
        numbers: Numeric attributes in standard deviations from their mean, shape (n, m).
        parts: Span of each addend of a score within the dense vectors.
        sparse_parts: The same within the sparse ones.
    """

    dense: Matrix
    partners: Partners
    content: Matrix
    cf: Matrix
    numbers: Matrix
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
        user, own = np.asarray(vector, np.float32), self.dense[rows]
        columns = [own[:, start:stop] @ user[start:stop] for start, stop in self.parts.values()]
        if self.sparse_parts:
            columns += self._sparse_columns(sparse, rows)
        return np.stack(columns, axis=1, dtype=np.float64)

    def _sparse_columns(self, sparse: SparseVector, rows: Rows) -> list[Array]:
        if not len(sparse.indices) or not len(rows):
            return [np.zeros(len(rows))] * len(self.sparse_parts)
        products = self.products(sparse, rows)
        columns = []
        for start, stop in self.sparse_parts.values():
            first, last = np.searchsorted(products.dimensions, [start, stop])
            part = slice(first, last)
            columns.append(np.bincount(products.places[part], products.values[part], minlength=len(rows)))
        return columns

    def products(self, sparse: SparseVector, rows: Rows, *, support: bool = False) -> "Products":
        """The addends of the sparse dot products of some items, each of which is named once, with one user.

        Args:
            sparse: The user's.
            rows: The items.
            support: Whether it is told as well.
        """
        partners = self.partners
        dimensions, readings = np.asarray(sparse.indices, np.int64), np.asarray(sparse.values, np.float64)
        dimensions = dimensions[: np.searchsorted(dimensions, len(partners))]
        begins, ends = partners.starts[dimensions], partners.starts[dimensions + 1]
        place = np.full(len(self), -1, np.int32)
        place[rows] = np.arange(len(rows), dtype=np.int32)
        places = place[partners.read(begins, ends)]
        wanted = np.flatnonzero(places >= 0)
        counts = ends - begins
        owner = np.repeat(np.arange(len(dimensions)), counts)[wanted]
        entries = wanted + (begins - np.cumsum(counts) + counts)[owner]
        values = readings[owner] * partners.values[entries]
        return Products(dimensions[owner], places[wanted], values, partners.support[entries] if support else None)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], parts: Spans, sparse_parts: Spans) -> Self:
        """From arrays by name: ``dense``, ``content``, ``partners.starts`` and so on."""
        partners = Partners(*(tensors[f"partners.{name}"] for name in ("starts", "items", "values", "support")))
        content, cf, numbers = (tensors[name] for name in ("content", "cf", "numbers"))
        return cls(tensors["dense"], partners, content, cf, numbers, parts, sparse_parts)


class Products(NamedTuple):
    """Addends of sparse dot products, by dimension, ascending.

    Attributes:
        dimensions: Of each addend.
        places: Of the item among those asked for.
        values: The addends.
        support: How many people had both, or None.
    """

    dimensions: Rows
    places: Array
    values: Array
    support: Array | None
