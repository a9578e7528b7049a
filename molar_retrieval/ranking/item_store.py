"""What ranking reads of every item: arrays that an index version keeps on disk and maps into memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from itertools import count as count_up
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval import columns
from molar_retrieval.ranking.index_protocol import Spans, SparseVector, Vector
from molar_retrieval.ranking.objectives import ObjectiveScale

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
_FEW = 8
"""Numbers are put in order where there are so many times more items, else counted into an array of all of these."""
_BRIEF = 1 << 12
"""So many numbers are read and added up by NumPy in less time than by SciPy."""
_ROUTINES = "scipy.sparse._sparsetools"
_ASKED_ALONE = 8
"""So many users are asked about one by one before the numbers of each item are put together, as a process that answers
once does without."""
_MOST_TRANSPOSED = 1 << 23
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
        if len(self.values) <= _MOST_TRANSPOSED and next(self._asked) >= _ASKED_ALONE:
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


Matrix = npt.NDArray[np.float32]
_MOST_KEPT = 1 << 20  # numbers of vectors that are kept a second time, divided by their lengths
_MOST_TURNED = 1 << 22  # numbers of vectors that are kept a second time, dimension by dimension


@dataclass(frozen=True, eq=False)
class LowSupportItems:
    """Known items with few interactions, ranked among cold ones: rows, ascending, and vectors (E, d)."""

    rows: Rows
    dense: Matrix

    def products(self, users: Sequence[Vector]) -> Matrix:
        """About what is guessed of all of them for some users, shape (users, E)."""
        return _rows_of(users) @ self._turned

    @cached_property
    def _turned(self) -> Matrix:
        return _turned(self.dense)

    def guesses(self, user: Vector, places: Rows) -> Matrix:
        """What is guessed of some of them, exactly so for a user whoever else is asked about, shape (len(places),)."""
        guesses: Matrix = np.einsum("nd,d->n", self.dense.take(places, axis=0), np.asarray(user, np.float32))
        return guesses


class Forms:
    """Other forms of arrays, made where they are first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Matrix, Matrix]] = {}

    def of(self, name: str, source: Matrix, made: Callable[[Matrix], Matrix]) -> Matrix:
        """The form of this name, which is ``made`` anew of another source only."""
        known = self._made.get(name)
        if known is None or known[0] is not source:
            known = self._made[name] = source, made(source)
        return known[1]


@dataclass(frozen=True, eq=False)
class ItemStore:
    """All n items as ranking sees them for one aim: vectors of users are given as they are stored.

    Scores of known items are of what the factors of the aim make of these. Cold and low-support items are ranked among
    themselves, for every aim by the vectors as they are.
    """

    dense: Matrix  # ``aligned`` of known items, ``cold_start`` of cold ones, shape (n, d)
    known: npt.NDArray[np.bool_]  # had training interactions, shape (n,)
    cold: npt.NDArray[np.bool_]  # had none, shape (n,); a row that no item has is neither
    sparse: SparseItemIndex  # the sparse vectors beside the dense ones
    content: Matrix  # what items look like, rows of length 1 or 0, shape (n, f)
    als: Matrix  # ALS factors, shape (n, c)
    numbers: Matrix  # numeric attributes in standard deviations from their mean, shape (n, m)
    parts: Spans  # of each addend of a score within the dense vectors
    sparse_parts: Spans  # the same within the sparse ones
    low_support: LowSupportItems | None = None  # None: there are none
    whitening: Matrix | None = None  # what users are multiplied by to search ``whitened``, shape (d, d); None: no such
    factors: ObjectiveScale = field(default_factory=dict)  # of the parts, see :mod:`molar_retrieval.ranking.objectives`
    forms: Forms = field(default_factory=Forms)  # shared by the stores of all aims

    def __len__(self) -> int:
        return len(self.dense)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parts of a score in the order in which they are returned."""
        return (*self.parts, *self.sparse_parts)

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """Those of them that count for the aim; the others are 0 for all known items."""
        return tuple(name for name in self.names if self.factors.get(name, 1.0))

    def for_objective(self, factors: ObjectiveScale) -> "ItemStore":
        """The same items for the aim that has these factors."""
        return self if factors == self.factors else replace(self, factors=factors)

    def factor(self, part: str, rows: Rows) -> Array | float:
        """What a part of the scores of some items is multiplied by, one number or shape (len(rows),)."""
        factor = self.factors.get(part, 1.0)
        return factor if factor == 1.0 else np.where(self.cold[rows], 1.0, factor)

    def units(self, name: str, rows: Rows) -> Matrix:
        """Some items' ALS factors (``als``) or their block of a dense part, of length 1 or 0, shape (len(rows), d)."""
        every, span = (self.als, slice(None)) if name == "als" else (self.dense, slice(*self.parts[name]))
        own = every[:, span]
        if own.size > _MOST_KEPT:
            return _unit(own[rows])
        return self.forms.of(name, every, lambda _: _unit(own)).take(rows, axis=0)

    @cached_property
    def cold_rows(self) -> Rows:
        """The rows of those that had no training interactions, ascending."""
        return np.flatnonzero(self.cold)

    @cached_property
    def _scale(self) -> Matrix | None:
        """What dense vectors of users are multiplied by, shape (d,); None: they stay as they are."""
        if all(self.factors.get(part, 1.0) == 1.0 for part in self.parts):
            return None
        scale = np.ones(self.dense.shape[1], np.float32)
        for part, (start, stop) in self.parts.items():
            scale[start:stop] = self.factors.get(part, 1.0)
        return scale

    def _asked(self, vector: Vector) -> Vector:
        """The dense vector of a user that known items are multiplied with."""
        if self._scale is None:
            return vector
        asked: list[float] = (np.asarray(vector, np.float32) * self._scale).tolist()
        return asked

    def asked_sparse(self, sparse: SparseVector) -> SparseVector:
        """The sparse vector of a user that items are multiplied with; what has a factor of 0 is left out."""
        own = self._own_sparse(sparse)
        return sparse if own is sparse else SparseVector(*(np.asarray(one).tolist() for one in own))

    def _own_sparse(self, sparse: SparseVector) -> SparseVector:
        """The same, in arrays where it is another one."""
        if not self._sparse_factors:
            return sparse
        indices: Any = np.asarray(sparse.indices, np.int64)
        values: Any = np.array(sparse.values, np.float32)
        for span, factor in self._sparse_factors:
            begin, end = indices.searchsorted(span)
            values[begin:end] *= factor
        left = values.nonzero()[0]
        return SparseVector(indices.take(left), values.take(left))

    @cached_property
    def _sparse_factors(self) -> list[tuple[Rows, np.float32]]:
        """Spans of the sparse parts whose factors are not 1, and these."""
        factors = {part: self.factors.get(part, 1.0) for part in self.sparse_parts}
        return [
            (np.array(self.sparse_parts[part], np.int64), np.float32(one))
            for part, one in factors.items()
            if one != 1.0
        ]

    def split(self, vector: Vector, sparse: SparseVector, rows: Rows) -> Array:
        """The addends of the scores of some items for one user, shape (len(rows), P), in the order of :attr:`names`."""
        return self.addends(vector, self.sums(sparse), rows)

    def sums(self, sparse: SparseVector) -> Sums:
        """What the sparse vectors of all items say to a user."""
        return self.sparse.sums(self._own_sparse(sparse), self._sparse_spans, len(self))

    @cached_property
    def _sparse_spans(self) -> Rows:
        return np.array(list(self.sparse_parts.values()), np.int64)

    def sparse_products(self, sparse: SparseVector, rows: Rows) -> Products:
        """The addends of what the sparse vectors of some items, each named once, say to a user."""
        return self.sparse.products(self._own_sparse(sparse), rows, len(self))

    def products(self, users: Sequence[Vector] | Matrix) -> Matrix:
        """The dense products of all items with some users, shape (users, n)."""
        rows = _rows_of(users)
        turned = self.forms.of("turned", self.dense, _turned)
        products: Matrix = (rows if self._scale is None else np.multiply(rows, self._scale)) @ turned
        if self._scale is not None and len(self.cold_rows):
            products[:, self.cold_rows] = rows @ self._cold.T
        return products

    @cached_property
    def _cold(self) -> Matrix:
        cold: Matrix = self.dense[self.cold_rows]
        return cold

    def asked(self, vector: Vector) -> tuple[str, Vector]:
        """Which vectors an index is to search, and by which, for the known items of the best dense products."""
        if self.whitening is None:
            return columns.ALIGNED, self._asked(vector)
        return columns.WHITENED, whitened(self._asked(vector), self.whitening)

    def addends(self, vector: Vector, sums: Sums, rows: Rows) -> Array:
        """See :meth:`split`, for a user whose :meth:`sums` are known."""
        addends = np.empty((len(rows), len(self.names)))
        self.add_dense(addends, np.asarray(vector, np.float32), rows)
        addends[:, len(self.parts) :] = sums.of(rows).T
        return addends

    def add_dense(self, addends: Array, users: Matrix, rows: Rows) -> None:
        """Fill in the dense addends of some items, for one user, shape (d,), or for one of each, (len(rows), d)."""
        own, formula = self.dense.take(rows, axis=0), "nd,d->n" if users.ndim == 1 else "nd,nd->n"
        # Row by row: a product by BLAS may score equal rows differently, and such items are to come by their rows.
        for number, (part, (start, stop)) in enumerate(self.parts.items()):
            addends[:, number] = np.einsum(formula, own[:, start:stop], users[..., start:stop])
            if self.factors.get(part, 1.0) != 1.0:
                addends[:, number] *= self.factor(part, rows)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], parts: Spans, sparse_parts: Spans) -> Self:
        """From arrays by name: ``dense``, ``content``, ``item_item.starts`` and so on."""
        sparse = SparseItemIndex(*(tensors[f"item_item.{name}"] for name in ("starts", "items", "values", "support")))
        content, als, numbers = (tensors[name] for name in ("content", "als", "numbers"))
        known, cold = (tensors[name] > 0 for name in ("known", "cold_start"))
        rows = tensors.get("emerging.rows")
        low_support = None if rows is None else LowSupportItems(rows, tensors["emerging.dense"])
        own = tensors["dense"], known, cold, sparse, content, als, numbers, parts, sparse_parts
        return cls(*own, low_support, tensors.get("whitening"))


def whitened(vector: Vector, whitening: Matrix) -> list[float]:
    """A user's vector for a search of ``whitened``."""
    turned: list[float] = (np.asarray(vector, np.float32) @ whitening).tolist()
    return turned


def _rows_of(users: Sequence[Vector] | Matrix) -> Matrix:
    # One by one, as NumPy reads an array of Python at once, and a list of them number by number.
    return users if isinstance(users, np.ndarray) else np.array([np.asarray(user, np.float32) for user in users])


def _unit(vectors: Matrix) -> Matrix:
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    unit: Matrix = np.asarray(vectors / np.where(length > 0, length, 1)[:, None], np.float32)
    return unit


def _turned(vectors: Matrix) -> Matrix:
    """Vectors dimension by dimension, shape (d, n): for one user products by them take half of the time."""
    return np.ascontiguousarray(vectors.T) if vectors.size <= _MOST_TURNED else vectors.T
