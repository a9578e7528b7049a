"""The sparse vectors of all items, by dimension, and what they say to one user.

The items that have a number in a dimension lie one after the other, so that the products with all items cost as much as
there are such numbers in the dimensions of a user, however many items there are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from itertools import count as count_up
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.index_protocol import SparseVector

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
_FEW = 8
"""Numbers are put in order where there are so many times more items, else counted into an array of all of these."""
_BRIEF = 1 << 12
"""So many numbers are read and added up by NumPy in less time than by SciPy."""
_ROUTINES = "scipy.sparse._sparsetools"
_ALONE = 8
"""So many users are asked about one by one before the numbers of each item are put together, as a process that answers
once does without."""
_MOST_TURNED = 1 << 23
"""Numbers of which is kept where those of each item are, of eight bytes each."""
_MOST_NUMBERS = np.iinfo(np.int32).max  # of which SciPy adds up some
_MOST_ITEMS = 1 << 16
"""Items of which all products with a user are held, zeros too."""


class Sums(NamedTuple):
    """Sparse dot products of the items that have any with one user."""

    rows: Rows | None  # of the items, ascending, shape (m,); None: the products are those of all items
    parts: Array  # one row for each part of the score, shape (P, m)

    def of(self, rows: Rows) -> Array:
        """The products of some items, 0 for those that have none, shape (P, len(rows))."""
        if self.rows is None:
            return self.parts.take(rows, axis=1)
        if not len(self.rows):
            return np.zeros((len(self.parts), len(rows)))
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        found: Array = np.where(self.rows[places] == rows, self.parts[:, places], 0.0)
        return found

    def add_to(self, scores: Array) -> None:
        """Add the sums of the parts to what all items have, shape (n,)."""
        scores[slice(None) if self.rows is None else self.rows] += self.parts.sum(axis=0)

    def without_zeros(self) -> tuple[Rows, Array]:
        """Rows of the items of which some product is not 0, and the sums of their parts."""
        some = np.flatnonzero(self.parts.any(axis=0))
        return some if self.rows is None else self.rows[some], self.parts[:, some].sum(axis=0)


class Products(NamedTuple):
    """Addends of the sparse dot products of some items with one user; those of an item by dimension, ascending."""

    dimensions: Rows
    places: Array  # of the item among those asked for
    values: Array
    support: Array  # how many people had both


class _ByItem(NamedTuple):
    """The numbers of all items, those of an item by dimension, ascending."""

    starts: Array  # of each item, and at last the end, shape (count + 1,)
    dimensions: Array  # shape (entries,)
    entries: Array  # their places among those by dimension, shape (entries,)


@dataclass(frozen=True, eq=False)
class SparseItemIndex:
    """The sparse vectors of all items, by dimension: which items have a number there."""

    starts: Array  # of each dimension, and at last the end, shape (width + 1,)
    items: Array  # rows, shape (entries,)
    values: Array  # shape (entries,)
    support: Array  # how many people had the item and the one of the dimension, shape (entries,)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def sums(self, sparse: SparseVector, spans: Array | Sequence[tuple[int, int]], count: int) -> Sums:
        """The products of all ``count`` items with a user, apart for some spans of dimensions; others add nothing.

        The spans ascend.
        """
        dimensions, readings, begins, ends = self._known(sparse)
        bounds = dimensions.searchsorted(spans).reshape(-1, 2)  # of those of a user, by span
        sizes = ends - begins
        fits = count <= _MOST_ITEMS and len(self.values) <= _MOST_NUMBERS
        if fits and sizes.sum() > _BRIEF and (routines := _routines()) is not None:
            return self._whole(routines, dimensions, readings, sizes, bounds, count)
        items = _read(self.items, begins, ends)
        values = _read(self.values, begins, ends) * np.repeat(readings, sizes)
        rows, places, number = None, items, count
        if _FEW * len(items) < count:
            rows, places = _distinct(items)
            number = len(rows)
        parts, edges = np.empty((len(bounds), number)), [0, *np.cumsum(sizes).tolist()]
        for own, (first, last) in zip(parts, bounds, strict=True):
            some = slice(edges[first], edges[last])
            own[:] = np.bincount(places[some], values[some], minlength=number)
        return Sums(rows, parts)

    def _whole(
        self, routines: "_Routines", dimensions: Rows, readings: Array, sizes: Rows, bounds: Rows, count: int
    ) -> Sums:
        """The same by SciPy, in half of the time.

        Numbers of both sides have 24 bits, so products are exact in float64; they are added up in the order of
        dimensions either way. So the sums are the same in every bit.
        """
        starts, rows = self._whole_numbers
        named = dimensions.astype(np.int32)
        edges = np.zeros(len(named) + 1, np.int32)
        np.cumsum(sizes, out=edges[1:])
        items, values = np.empty(edges[-1], np.int32), np.empty(edges[-1], self.values.dtype)
        routines.row_index(len(named), named, starts, rows, self.values, items, values)
        parts, numbers = np.zeros((len(bounds), count)), values.astype(np.float64)
        for own, (first, last) in zip(parts, bounds.tolist(), strict=True):
            if first < last:
                routines.add_products(
                    count, last - first, edges[first : last + 1], items, numbers, readings[first:last], own
                )
        return Sums(None, parts)

    @cached_property
    def _whole_numbers(self) -> tuple[Array, Array]:
        """Starts and items as SciPy takes them."""
        return self.starts.astype(np.int32), self.items.astype(np.int32, copy=False)

    @cached_property
    def _asked(self) -> Iterator[int]:
        """How often somebody asked about one user."""
        return count_up()

    def products(self, sparse: SparseVector, rows: Rows, count: int) -> Products:
        """The addends of the products of some of ``count`` items, each of which is named once, with a user."""
        dimensions, readings, begins, ends = self._known(sparse)
        if len(self.values) <= _MOST_TURNED and next(self._asked) >= _ALONE:
            return self._products_by_item(dimensions, readings, rows, self._by_item(count))
        place = np.full(count, -1, np.int32)
        place[rows] = np.arange(len(rows), dtype=np.int32)
        places = place[_read(self.items, begins, ends)]
        wanted = np.flatnonzero(places >= 0)
        sizes = ends - begins
        owner = np.repeat(np.arange(len(dimensions)), sizes)[wanted]
        entries = wanted + (begins - np.cumsum(sizes) + sizes)[owner]
        values = readings[owner] * self.values[entries]
        return Products(dimensions[owner], places[wanted], values, self.support[entries])

    def _products_by_item(self, dimensions: Rows, readings: Array, rows: Rows, by_item: "_ByItem") -> Products:
        """The same from the few numbers that these items have."""
        begins, ends = by_item.starts[rows], by_item.starts[rows + 1]
        asked = np.full(len(self), -1, np.int32)
        asked[dimensions] = np.arange(len(dimensions), dtype=np.int32)
        owner = asked[_read(by_item.dimensions, begins, ends)]
        wanted = (owner >= 0).nonzero()[0]
        places = np.repeat(np.arange(len(rows)), ends - begins)[wanted]
        owner, entries = owner[wanted], _read(by_item.entries, begins, ends)[wanted]
        return Products(dimensions[owner], places, readings[owner] * self.values[entries], self.support[entries])

    def _by_item(self, count: int) -> "_ByItem":
        """Where the numbers of each of so many items are; it is kept once it is made."""
        from scipy.sparse import csr_matrix

        if count not in self._turned:
            entries = np.arange(len(self.items), dtype=np.int32)
            turned = csr_matrix((entries, self.items, self.starts), (len(self), count)).tocsc()
            self._turned[count] = _ByItem(turned.indptr, turned.indices, turned.data)
        return self._turned[count]

    @cached_property
    def _turned(self) -> "dict[int, _ByItem]":
        return {}

    def _known(self, sparse: SparseVector) -> tuple[Rows, Array, Rows, Rows]:
        dimensions = np.asarray(sparse.indices, np.int64)
        dimensions = dimensions[: np.searchsorted(dimensions, len(self))]
        readings = np.asarray(sparse.values, np.float64)[: len(dimensions)]
        return dimensions, readings, self.starts[dimensions], self.starts[dimensions + 1]


class _Routines(NamedTuple):
    """What SciPy's ``matrix[rows].T @ vector`` calls; its checks and copies around them take longer than the work."""

    row_index: Callable[..., None]
    add_products: Callable[..., None]


@cache
def _routines() -> _Routines | None:
    """They are SciPy's own: None where a version has moved them, and NumPy does the same more slowly.

    They are read from their file, as the package around them takes a tenth of a second of each process.
    """
    try:
        package = find_spec("scipy")
        places = [] if package is None else package.submodule_search_locations or []
        found = PathFinder.find_spec(_ROUTINES, [str(Path(place, "sparse")) for place in places])
        if found is None or found.loader is None:
            return None
        routines = module_from_spec(found)
        found.loader.exec_module(routines)
        return _Routines(routines.csr_row_index, routines.csc_matvec)
    except (ImportError, AttributeError):
        return None


def _distinct(items: Array) -> tuple[Rows, Rows]:
    """The different numbers, ascending, and the place of each among them; quick where they are some ascending runs."""
    order = np.argsort(items, kind="stable")
    ordered = items[order]
    new = np.ones(len(items), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    places = np.empty(len(items), np.int64)
    places[order] = np.cumsum(new) - 1
    return ordered[new], places


def _read(entries: Array, begins: Rows, ends: Rows) -> Array:
    """Some ranges of entries, one after the other."""
    pieces = [entries[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    return np.concatenate(pieces) if pieces else entries[:0]
