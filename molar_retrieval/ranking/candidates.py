"""Candidates for one user: the items with the best sums of a dense and a sparse product, and the best newcomers.

The index ranks by one vector at a time. Its two lists are read as far as it takes to prove the first places of the sum
(the threshold algorithm: Fagin, Lotem and Naor 2001, doi:10.1145/375551.375567); the sums themselves are taken from the
item table. Lists are read in blocks that grow, as a search engine starts anew for a longer one.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval import columns
from molar_retrieval.expressions import Expression
from molar_retrieval.index import Index, SparseVector, Vector
from molar_retrieval.ranking.answer import NOTHING
from molar_retrieval.ranking.newcomers import TOP, merge
from molar_retrieval.ranking.table import ItemTable

Array = npt.NDArray[Any]
DEPTH = 200
"""How much of each list is read at first: enough to settle ten of 3,883 items in one round even where the lists have
nothing to do with each other."""
_AHEAD = 2
"""Of each list so many times the candidates are read: that finds 99 of 100 of the best sums."""
_GROWTH = 4


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
    table: ItemTable,
    slots: int,
    vector: Vector,
    sparse: SparseVector,
    k: int,
    size: int,
    *,
    hidden: Collection[int] = (),
    where: Expression | None = None,
) -> Candidates:
    """The best items for a user's vectors, newcomers in their places.

    Args:
        index: Where known items and newcomers are searched.
        table: Of the same items.
        slots: How many of the first ten places newcomers get.
        vector: The user's dense vector.
        sparse: The one beside it.
        k: So many places are exactly those of a full scan, as far as the index itself is exact.
        size: How many candidates; at least ``k``. Those behind the first ``k`` are the best that the lists showed.
        hidden: Rows that must not come.
        where: Condition on the items' attributes, applied inside the search.

    Returns:
        At most ``size``.
    """
    wanted = max(k, TOP)
    known = _known(index, table, vector, sparse, wanted, max(size, wanted), hidden, where)
    if columns.NEWCOMERS not in index.spec.dims:
        return known.take(np.arange(min(size, len(known))))
    few = wanted if len(known) >= size else max(size, wanted)
    found = index.top(columns.NEWCOMERS, vector, few, exclude=hidden, where=where)
    newcomers = scored(table, vector, NOTHING, [row for row, _ in found])  # they have no partners
    merged = merge(known.scores, newcomers.scores, slots)
    chosen = joined(known, newcomers).take((merged.place + len(known) * merged.newcomer)[:size])
    return replace(chosen, lift=merged.lift[:size], newcomer=merged.newcomer[:size])


def joined(*found: Candidates) -> Candidates:
    """All of several candidates, one after the other."""
    names = [field.name for field in fields(Candidates)]
    return Candidates(*(np.concatenate([getattr(one, name) for one in found]) for name in names))


def scored(table: ItemTable, vector: Vector, sparse: SparseVector, found: list[int]) -> Candidates:
    """Some rows, the best first, equal scores by row."""
    rows = np.array(found, np.int64)
    parts = table.split(vector, sparse, rows)
    order = np.lexsort((rows, -parts.sum(axis=1)))
    return Candidates(rows[order], parts[order], np.zeros(len(rows)), np.zeros(len(rows), bool), np.zeros(len(rows)))


def _known(
    index: Index,
    table: ItemTable,
    vector: Vector,
    sparse: SparseVector,
    k: int,
    size: int,
    hidden: Collection[int],
    where: Expression | None,
) -> Candidates:
    count, depth = len(index), max(DEPTH, _AHEAD * size)
    sums = columns.PARTNERS in index.spec.sparse and len(sparse.indices) > 0
    while True:
        depth = min(depth, count + 1)
        dense = index.top(columns.ALIGNED, vector, depth, exclude=hidden, where=where)
        rows = {row for row, _ in dense}
        bound = dense[-1][1] if len(dense) == depth else -inf
        if sums:
            partners = index.top(columns.PARTNERS, sparse, depth, exclude=hidden, where=where)
            rows.update([row for row, _ in partners])
            bound += max(partners[-1][1], 0.0) if len(partners) == depth else 0.0
        best = scored(table, vector, sparse, list(rows))
        if bound == -inf or (len(best) >= k and best.scores[k - 1] > bound):
            return best.take(np.arange(min(size, len(best))))
        depth *= _GROWTH
