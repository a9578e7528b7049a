"""Candidates for one user: the items with the best sums of a dense and a sparse product, and the best newcomers.

The sparse products are those of the item table. The dense ones are too where they are known, or cost less than a search
would: the sums are then ranked as they are. Else, and under a condition on items, the index ranks by one vector at a
time, and its lists are read as far as it takes to prove the first places of the sum (the threshold algorithm: Fagin,
Lotem and Naor 2001, doi:10.1145/375551.375567), in blocks that grow, as a search engine starts anew for a longer one.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, replace
from functools import partial
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval import columns
from molar_retrieval.expressions import Expression
from molar_retrieval.index import Index, Vector
from molar_retrieval.ranking.cold_start import TOP, merge
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.ranking.sparse_index import Sums
from molar_retrieval.ranking.wishes import Asker

Array = npt.NDArray[Any]
DEPTH = 200
"""How much of each list is read at first: enough to settle ten of 3,883 items in one round even where the lists have
nothing to do with each other."""
_AHEAD = 2
"""Of each list so many times the candidates are read: that finds 99 of 100 of the best sums."""
_GROWTH = 4
MOST_SCANNED = 1 << 22
"""Numbers in the items' dense vectors up to which one product with all of them costs less than a search."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Ranked items, best first.

    Attributes:
        rows: Item rows, shape (C,).
        parts: Addends of their scores by the table's parts, shape (C, P).
        lift: What is added to a newcomer's, 0 for others, shape (C,).
        newcomer: Whether an item had no training interactions, shape (C,).
        moved: What a second stage adds, shape (C,).
    """

    rows: npt.NDArray[np.int64]
    parts: Array
    lift: Array
    newcomer: npt.NDArray[np.bool_]
    moved: Array

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def scores(self) -> Array:
        """The sums, shape (C,)."""
        scores: Array = self.parts.sum(axis=1) + self.lift + self.moved
        return scores

    def take(self, places: Array | slice) -> "Candidates":
        """Some of them, in the order of ``places``."""
        return Candidates(*(getattr(self, field.name)[places] for field in fields(self)))


def find(
    index: Index,
    table: ItemStore,
    slots: int,
    asker: Asker,
    k: int,
    size: int,
    *,
    hidden: Collection[int] = (),
    where: Expression | None = None,
) -> Candidates:
    """The best items for a user, newcomers in their places.

    Args:
        index: Where items are searched.
        table: Of the same items.
        slots: How many of the first ten places newcomers get.
        asker: The user.
        k: So many places are exactly those of a full scan, as far as the index itself is exact.
        size: How many candidates; at least ``k``. Those behind the first ``k`` are the best that the lists showed.
        hidden: Rows that must not come.
        where: Condition on the items' attributes, applied inside the search.

    Returns:
        At most ``size``.
    """
    wanted = max(k, TOP)
    sums = table.sums(asker.sparse)
    products = asker.products
    if products is None and table.dense.size <= MOST_SCANNED:
        products = table.dense @ np.asarray(asker.vector, np.float32)
    source: _Scan | _Search
    if where is None and products is not None:
        source = _Scan(table, asker, sums, products, hidden)
    else:
        source = _Search(index, table, asker, sums, hidden, where)
    known = source.known(wanted, max(size, wanted))
    if columns.COLD_START not in index.spec.dims:
        return known.take(np.arange(min(size, len(known))))
    newcomers = source.newcomers(wanted if len(known) >= size else max(size, wanted))
    merged = merge(known.scores, newcomers.scores, slots)
    chosen = joined(known, newcomers).take((merged.place + len(known) * merged.newcomer)[:size])
    return replace(chosen, lift=merged.lift[:size], newcomer=merged.newcomer[:size])


def joined(*found: Candidates) -> Candidates:
    """All of several candidates, one after the other."""
    names = [field.name for field in fields(Candidates)]
    return Candidates(*(np.concatenate([getattr(one, name) for one in found]) for name in names))


def scored(table: ItemStore, vector: Vector, sums: Sums, rows: npt.NDArray[np.int64]) -> Candidates:
    """Some rows, the best first, equal scores by row."""
    parts = table.addends(vector, sums, rows)
    order = np.lexsort((rows, -parts.sum(axis=1)))
    return Candidates(rows[order], parts[order], np.zeros(len(rows)), np.zeros(len(rows), bool), np.zeros(len(rows)))


class _Scan:
    """The best items by their sums, all of which are known."""

    def __init__(self, table: ItemStore, asker: Asker, sums: Sums, products: Array, hidden: Collection[int]) -> None:
        self._table, self._asker, self._sums = table, asker, sums
        rows = np.fromiter(hidden, np.int64, len(hidden))
        self._shown = np.ones(len(table), bool)
        self._shown[rows[rows < len(table)]] = False
        self._scores = products.astype(np.float64)
        self._scores[sums.rows] += sums.parts.sum(axis=0)

    def known(self, k: int, size: int) -> Candidates:
        """The best ``size`` items that had training interactions; the first ``k`` of them are exactly the best."""
        return self._best(self._table.known, size)

    def newcomers(self, size: int) -> Candidates:
        """The best ``size`` of the others."""
        return self._best(self._table.newcomer, size)

    def _best(self, among: Array, size: int) -> Candidates:
        rows = np.flatnonzero(among & self._shown)
        if len(rows) > size:
            scores = self._scores[rows]
            least = np.partition(scores, len(rows) - size)[len(rows) - size]
            rows = rows[scores >= least]  # of equal ones the lowest rows come, as from an index
        best = scored(self._table, self._asker.vector, self._sums, rows)
        return best.take(slice(size))


class _Search:
    """The best items by what an index finds."""

    def __init__(
        self,
        index: Index,
        table: ItemStore,
        asker: Asker,
        sums: Sums,
        hidden: Collection[int],
        where: Expression | None,
    ) -> None:
        self._table, self._asker, self._sums, self._count = table, asker, sums, len(index)
        self._hidden, self._where = hidden, where
        self._top = partial(index.top, exclude=hidden, where=where)

    def known(self, k: int, size: int) -> Candidates:
        """Good ``size`` items that had training interactions; the first ``k`` of them are the best."""
        depth = max(DEPTH, _AHEAD * size)
        while True:
            depth = min(depth, self._count + 1)
            dense = self._top(columns.ALIGNED, self._asker.vector, depth)
            beside, most = self._partners(depth)
            bound = dense[-1][1] + max(most, 0.0) if len(dense) == depth else -inf
            best = self._scored({row for row, _ in dense}.union(beside))
            if bound == -inf or (len(best) >= k and best.scores[k - 1] > bound):
                return best.take(slice(size))
            depth *= _GROWTH

    def newcomers(self, size: int) -> Candidates:
        """The best ``size`` of the others."""
        return self._scored([row for row, _ in self._top(columns.COLD_START, self._asker.vector, size)])

    def _partners(self, depth: int) -> tuple[list[int], float]:
        """The best rows by their sparse products, and what those that are left out have at most."""
        rows = self._sums.rows
        if not len(rows):
            return [], 0.0
        if self._where is not None:  # only the index can judge that
            found = self._top(columns.ITEM_WEIGHTS, self._asker.sparse, depth)
            return [row for row, _ in found], found[-1][1] if len(found) == depth else 0.0
        totals = self._sums.parts.sum(axis=0)
        shown = ~np.isin(rows, np.fromiter(self._hidden, np.int64, len(self._hidden)))
        rows, totals = rows[shown], totals[shown]
        if len(rows) <= depth:
            return rows.tolist(), 0.0
        places = np.argpartition(-totals, depth - 1)[:depth]
        return rows[places].tolist(), float(totals[places[-1]])

    def _scored(self, rows: Iterable[int]) -> Candidates:
        return scored(self._table, self._asker.vector, self._sums, np.fromiter(rows, np.int64))
