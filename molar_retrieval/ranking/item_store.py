"""What ranking reads of every item: arrays that a generation keeps on disk and maps into memory.

A row of them costs microseconds, a stored vector that comes back through a database client a hundred times as much.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval import columns
from molar_retrieval.ranking.aims import Factors
from molar_retrieval.ranking.index_protocol import Spans, SparseVector, Vector
from molar_retrieval.ranking.sparse_index import Products, SparseItemIndex, Sums

Array = npt.NDArray[Any]
Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
_MOST_KEPT = 1 << 20  # numbers of vectors that are kept a second time, divided by their lengths
_MOST_TURNED = 1 << 22  # numbers of vectors that are kept a second time, dimension by dimension


@dataclass(frozen=True, eq=False)
class Emerging:
    """Known items with few interactions, as they are ranked among newcomers: by rows, ascending, and vectors (E, d)."""

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

    Scores of known items are of what the factors of the aim make of these. Cold and emerging items are ranked among
    themselves, for every aim by the vectors as they are.
    """

    dense: Matrix  # ``aligned`` of known items, ``newcomers`` of cold ones, shape (n, d)
    known: npt.NDArray[np.bool_]  # had training interactions, shape (n,)
    cold: npt.NDArray[np.bool_]  # had none, shape (n,); a row that no item has is neither
    sparse: SparseItemIndex  # the sparse vectors beside the dense ones
    content: Matrix  # what items look like, rows of length 1 or 0, shape (n, f)
    cf: Matrix  # ALS factors, shape (n, c)
    numbers: Matrix  # numeric attributes in standard deviations from their mean, shape (n, m)
    parts: Spans  # of each addend of a score within the dense vectors
    sparse_parts: Spans  # the same within the sparse ones
    emerging: Emerging | None = None  # None: there are none
    whitening: Matrix | None = None  # what users are multiplied by to search ``whitened``, shape (d, d); None: no such
    factors: Factors = field(default_factory=dict)  # of the parts, see :mod:`molar_retrieval.ranking.aims`
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

    def for_aim(self, factors: Factors) -> "ItemStore":
        """The same items for the aim that has these factors."""
        return self if factors == self.factors else replace(self, factors=factors)

    def factor(self, part: str, rows: Rows) -> Array | float:
        """What a part of the scores of some items is multiplied by, one number or shape (len(rows),)."""
        factor = self.factors.get(part, 1.0)
        return factor if factor == 1.0 else np.where(self.cold[rows], 1.0, factor)

    def units(self, name: str, rows: Rows) -> Matrix:
        """Some items' ALS factors (``cf``) or their block of a dense part, of length 1 or 0, shape (len(rows), d)."""
        every, span = (self.cf, slice(None)) if name == "cf" else (self.dense, slice(*self.parts[name]))
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
        """From arrays by name: ``dense``, ``content``, ``partners.starts`` and so on."""
        sparse = SparseItemIndex(*(tensors[f"partners.{name}"] for name in ("starts", "items", "values", "support")))
        content, cf, numbers = (tensors[name] for name in ("content", "cf", "numbers"))
        known, cold = (tensors[name] > 0 for name in ("known", "newcomer"))
        rows = tensors.get("emerging.rows")
        emerging = None if rows is None else Emerging(rows, tensors["emerging.dense"])
        own = tensors["dense"], known, cold, sparse, content, cf, numbers, parts, sparse_parts
        return cls(*own, emerging, tensors.get("whitening"))


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
