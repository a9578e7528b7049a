"""The sparse vectors of all items, by dimension, and what they say to one user.

The items that have a number in a dimension lie one after the other, so that the products with all items cost as much as
there are such numbers in the dimensions of a user, however many items there are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from molar_retrieval.index import SparseVector

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
_FEW = 8
"""Numbers are put in order where there are so many times more items, else counted into an array of all of these."""


class Sums(NamedTuple):
    """Sparse dot products of the items that have any with one user."""

    rows: Rows  # of the items, ascending, shape (m,)
    parts: Array  # one row for each part of the score, shape (P, m)

    def of(self, rows: Rows) -> Array:
        """The products of some items, 0 for those that have none, shape (P, len(rows))."""
        if not len(self.rows):
            return np.zeros((len(self.parts), len(rows)))
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        found: Array = np.where(self.rows[places] == rows, self.parts[:, places], 0.0)
        return found


class Products(NamedTuple):
    """Addends of the sparse dot products of some items with one user, by dimension, ascending."""

    dimensions: Rows
    places: Array  # of the item among those asked for
    values: Array
    support: Array  # how many people had both


@dataclass(frozen=True, eq=False)
class SparseItemIndex:
    """The sparse vectors of all items, by dimension: which items have a number there."""

    starts: Array  # of each dimension, and at last the end, shape (width + 1,)
    items: Array  # rows, shape (entries,)
    values: Array  # shape (entries,)
    support: Array  # how many people had the item and the one of the dimension, shape (entries,)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def sums(self, sparse: SparseVector, spans: Iterable[tuple[int, int]], count: int) -> Sums:
        """The products of all ``count`` items with a user, apart for some spans of dimensions; others add nothing."""
        dimensions, readings, begins, ends = self._known(sparse)
        sizes = ends - begins
        items = _read(self.items, begins, ends)
        values = _read(self.values, begins, ends) * np.repeat(readings, sizes)
        places, number = items, count
        if _FEW * len(items) < count:
            rows, places = np.unique(items, return_inverse=True)
            number = len(rows)
        edges = np.concatenate([[0], np.cumsum(sizes)])
        parts = []
        for span in spans:
            begin, end = edges[np.searchsorted(dimensions, span)]
            parts.append(np.bincount(places[begin:end], values[begin:end], minlength=number))
        found = np.stack(parts) if parts else np.zeros((0, number))
        if number == count:
            rows = np.flatnonzero(found.any(axis=0))
            found = found[:, rows]
        return Sums(rows.astype(np.int64), found)

    def products(self, sparse: SparseVector, rows: Rows, count: int) -> Products:
        """The addends of the products of some of ``count`` items, each of which is named once, with a user."""
        dimensions, readings, begins, ends = self._known(sparse)
        place = np.full(count, -1, np.int32)
        place[rows] = np.arange(len(rows), dtype=np.int32)
        places = place[_read(self.items, begins, ends)]
        wanted = np.flatnonzero(places >= 0)
        sizes = ends - begins
        owner = np.repeat(np.arange(len(dimensions)), sizes)[wanted]
        entries = wanted + (begins - np.cumsum(sizes) + sizes)[owner]
        values = readings[owner] * self.values[entries]
        return Products(dimensions[owner], places[wanted], values, self.support[entries])

    def _known(self, sparse: SparseVector) -> tuple[Rows, Array, Rows, Rows]:
        dimensions = np.asarray(sparse.indices, np.int64)
        dimensions = dimensions[: np.searchsorted(dimensions, len(self))]
        readings = np.asarray(sparse.values, np.float64)[: len(dimensions)]
        return dimensions, readings, self.starts[dimensions], self.starts[dimensions + 1]


def _read(entries: Array, begins: Rows, ends: Rows) -> Array:
    """Some ranges of entries, one after the other."""
    pieces = [entries[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    return np.concatenate(pieces) if pieces else entries[:0]
