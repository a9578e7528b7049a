"""What item-item models share: histories as sparse matrices, pairs counted in blocks, each item's strongest weights."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix, diags_array

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.time_decay import time_decay
from molar_retrieval.workspace.tensors import Array, Mask, Matrix, Outside, Rows, outside

_NEGLIGIBLE = 1e-6
LONGEST = 20_000
"""Interactions of one user whose pairs are counted; who has more is no person."""
PAIRS = 100_000_000_000
"""Pairs of interactions of one user that are counted in all, some minutes of work."""


def known_items(log: Interactions) -> Mask:
    """Whether an item occurs in the log, shape (n_items,)."""
    known = np.zeros(log.n_items, bool)
    known[log.item] = True
    return known


def binary(log: Interactions) -> csr_matrix:
    """Users × items, 1 for every pair that occurs, float32; weights and repetitions do not count."""
    ones = np.ones(len(log), np.float32)
    matrix = csr_matrix((ones, log.item, log.offsets), shape=(log.n_users, log.n_items), copy=True)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def decayed(log: Interactions, decay: float, last: int, fade: float = 0.0) -> csr_matrix:
    """Users × items: ``decay ** d``, in (0, 1], for the interaction d places before the last one, float32.

    Only the ``last`` interactions of a history count, :func:`time_decay` by the time between
    each and the last one.
    """
    ends = np.repeat(log.offsets[1:], np.diff(log.offsets))
    place = ends - 1 - np.arange(len(log))
    keep = place < last
    before = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
    values = np.power(decay, place[keep])
    if fade:
        values *= time_decay((log.timestamp[ends - 1] - log.timestamp)[keep], fade)
    values = values.astype(np.float32)
    matrix = csr_matrix((values, log.item[keep], before[log.offsets]), shape=(log.n_users, log.n_items))
    matrix.sum_duplicates()
    return matrix


def reach(decay: float) -> int:
    """How many of the latest interactions weigh more than a millionth of the last one, for a decay in (0, 1)."""
    return int(np.ceil(np.log(_NEGLIGIBLE) / np.log(decay)))


def countable(log: Interactions) -> Interactions:
    """The log with each user's latest interactions only, so few that all pairs of them can be counted.

    Nothing is left out where no user has more than 20,000, and all have fewer than 10¹¹ pairs.
    """
    lengths = np.diff(log.offsets).astype(np.float64)
    most = LONGEST
    while (np.minimum(lengths, most) ** 2).sum() > PAIRS:
        most //= 2
    if not len(lengths) or lengths.max() <= most:
        return log
    ends = np.repeat(log.offsets[1:], np.diff(log.offsets))
    return log.select(ends - np.arange(len(log)) <= most)


CORE = 8192
"""Most popular items whose pairs are all counted beforehand, as a matrix; nearly every neighbourhood has some."""
MOST_PAIRS = 1 << 26
"""Pairs of items that are counted all at once, which takes 2 GB; where there may be more, it is done in blocks."""
PAIRS_OF_BLOCK = 1 << 22
"""Pairs of interactions that a block of items has, about."""
_COLUMNS = 1024
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
class InteractionMatrix:
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
        slots = np.full(len(self.counts), -1, np.int32)
        slots[self._popular] = np.arange(len(self._popular))
        return slots

    @cached_property
    def _core(self) -> Matrix:
        own = self.of_users[:, self._popular].tocsc()
        core = np.empty((own.shape[1],) * 2, np.float32)
        for begin in range(0, own.shape[1], _COLUMNS):  # as a sparse matrix it would take three times the memory
            core[:, begin : begin + _COLUMNS] = (own.T @ own[:, begin : begin + _COLUMNS]).toarray()
        return core


_DENSE_COLUMNS = 256
"""Columns of a dense matrix that are copied at a time, as reading one alone would touch all of its memory."""

_MANY = 1 << 23
"""Weights that are not held in memory while others are counted."""
_CELLS = 1 << 20
"""Weights of columns of a sparse matrix that are looked at at a time, filled up to the longest of these."""


@dataclass(frozen=True, eq=False)
class ItemItemWeights:
    """Scores are a history times the weights from its items (rows) to all others (columns), shape (n_items, n_items).

    With a ``memory`` the ``last`` interactions of a history count, each of which loses that weight per place from the
    end, and is :func:`time_decay` by its time before the end; without, every item counts
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
        decay, last, fade = memory.tolist()
        return cls(name, weights, decay, int(last), fade)


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
    for begin in range(0, weights.shape[1], _DENSE_COLUMNS):
        block = np.ascontiguousarray(weights[:, begin : begin + _DENSE_COLUMNS].T)
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
        slots = (columns.indptr[chosen, None] + place)[there]
        far = np.full(there.shape, -1, columns.dtype)  # beyond the end of a column: further from being kept than zero
        far[there] = np.abs(columns.data[slots])
        keep[slots] = _largest(far, count)[there]
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
