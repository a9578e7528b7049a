"""Who took what, both ways, from which pairs of items are counted where they are asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts.histories import binary, known_items
from molar_retrieval.workspace.tensors import Array, Matrix, Outside, Rows

CORE = 8192
"""Most popular items whose pairs are all counted beforehand, as a matrix; nearly every neighbourhood has some."""
MOST_PAIRS = 1 << 26
"""Pairs of items that are counted all at once, which takes 2 GB; where there may be more, it is done in blocks."""
PAIRS_OF_BLOCK = 1 << 22
"""Pairs of interactions that a block of items has, about."""
_BLOCK = 1024
_AT_ONCE = 1 << 22
_ROOM = 8  # a part of an array that grows is left free


def ranges(pairs: npt.NDArray[np.integer]) -> list[slice]:
    """Neighbouring items in blocks of about 4 million pairs; how many an item has, shape (n_items,)."""
    ends = np.cumsum(pairs, dtype=np.int64)
    numbers = (np.maximum(ends, 1) - 1) // PAIRS_OF_BLOCK
    borders = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(pairs)]
    return [slice(begin, end) for begin, end in pairwise(borders) if begin < end]


def many_pairs(log: Interactions, window: int | None = None) -> bool:
    """Whether there may be too many pairs of items, up to ``window`` places apart, to have all of them in memory."""
    lengths = np.diff(log.offsets)
    reach = np.maximum(lengths - 1, 0) if window is None else np.clip(lengths - 1, 0, window)
    pairs = int((reach * lengths - reach * (reach + 1) // 2).sum())
    return min(pairs, int(np.count_nonzero(known_items(log))) ** 2) > MOST_PAIRS


Columns = Iterable[tuple[Rows, csc_matrix]]
"""Some items, and the columns of each of them, of n_items rows."""


def side_by_side(parts: Columns, n_items: int, folder: Path | None = None) -> csc_matrix:
    """Columns of items in their order as one matrix of (n_items, n_items), float32; those of others are empty.

    They are most of the memory that counting in blocks takes, so they are not there twice, and with a ``folder`` they
    are mapped from files without a name in it.
    """
    items, columns = _as_they_come(parts, n_items, folder)
    borders = np.zeros(n_items + 1, np.int64)
    borders[items + 1] = np.diff(columns.indptr)
    return csc_matrix((columns.data, columns.indices, np.cumsum(borders)), shape=(n_items, n_items))


def by_rows(parts: Columns, n_items: int, folder: Path | None = None) -> csr_matrix:
    """The same of items in any order, as a matrix by rows."""
    items, columns = _as_they_come(parts, n_items, folder)
    found = columns.tocsr()
    del columns
    in_order = bool((np.diff(items) > 0).all())
    if len(items) < n_items or not in_order:
        for begin in range(0, found.nnz, _AT_ONCE):
            some = found.indices[begin : begin + _AT_ONCE]
            some[:] = items[some]
    found = csr_matrix((found.data, found.indices, found.indptr), shape=(n_items, n_items))
    if not in_order:
        found.has_sorted_indices = False
        found.sort_indices()
    return found


def _as_they_come(parts: Columns, n_items: int, folder: Path | None) -> tuple[Rows, csc_matrix]:
    """The items, and a matrix of their columns, in this order."""
    grown = [_InMemory(kind) if folder is None else Outside(folder, kind) for kind in (np.int32, np.float32)]
    came, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for items, part in parts:
        came.append(items)
        lengths.append(np.diff(part.indptr))
        for array, values in zip(grown, (part.indices, part.data), strict=True):
            array.append(values)
    items, borders = np.concatenate(came), np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    rows, values = (array.array() for array in grown)
    return items, csc_matrix((values, rows, borders), shape=(n_items, len(items)))


class _InMemory:
    """As :class:`Outside`, but it grows in its place: the system moves pages, not numbers."""

    def __init__(self, kind: npt.DTypeLike) -> None:
        self._values, self._end = np.empty(1, kind), 0

    def append(self, values: Array) -> None:
        begin, self._end = self._end, self._end + len(values)
        if self._end > len(self._values):
            self._values.resize(self._end + self._end // _ROOM, refcheck=False)
        self._values[begin : self._end] = values

    def array(self) -> Array:
        self._values.resize(self._end, refcheck=False)
        return self._values


@dataclass(frozen=True, eq=False)
class Taken:
    """Ones, float32, where a user took an item: ``of_users``, shape (n_users, n_items), and the transpose of it."""

    of_users: csr_matrix
    of_items: csr_matrix

    @classmethod
    def of(cls, log: Interactions) -> Self:
        """Of a log, repetitions counting once."""
        taken = binary(log)
        return cls(taken, csr_matrix(taken.T))

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many users took each item, shape (n_items,)."""
        counts: npt.NDArray[np.int64] = np.diff(self.of_items.indptr).astype(np.int64)
        return counts

    @cached_property
    def blocks(self) -> list[slice]:
        """Ranges of items that have about as many pairs with others each."""
        return ranges((self.of_items @ np.diff(self.of_users.indptr).astype(np.float64)).astype(np.int64))

    def together(self, items: slice | Rows) -> csr_matrix:
        """How many users took one of ``items``, and another or the same one, shape (len(items), n_items), float32."""
        return csr_matrix(self.of_items[items] @ self.of_users)

    def among(self, items: Rows) -> Matrix:
        """How many users took two of some items, shape (m, m): what EASE's matrix has of these."""
        place = self._places[items]
        popular, rare = np.flatnonzero(place >= 0), np.flatnonzero(place < 0)
        if not len(rare):
            core: Matrix = self._core[np.ix_(place, place)]
            return core
        found = np.zeros((len(items),) * 2, np.float32)
        found[np.ix_(popular, popular)] = self._core[np.ix_(place[popular], place[popular])]
        users = np.unique(self.of_items[items[rare]].indices)
        own = self.of_users[users][:, items]
        pairs = (own[:, rare].T @ own).toarray()
        found[rare] = pairs
        found[:, rare] = pairs.T
        return found

    @cached_property
    def _popular(self) -> Rows:
        most = np.argsort(-self.counts, kind="stable")[:CORE]
        return np.sort(most[self.counts[most] > 0])

    @cached_property
    def _places(self) -> npt.NDArray[np.int32]:
        places = np.full(len(self.counts), -1, np.int32)
        places[self._popular] = np.arange(len(self._popular))
        return places

    @cached_property
    def _core(self) -> Matrix:
        own = self.of_users[:, self._popular].tocsc()
        core = np.empty((own.shape[1],) * 2, np.float32)
        for begin in range(0, own.shape[1], _BLOCK):  # as a sparse matrix it would take three times the memory
            core[:, begin : begin + _BLOCK] = (own.T @ own[:, begin : begin + _BLOCK]).toarray()
        return core
