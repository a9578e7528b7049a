"""Where the candidates of a request come from: from products with all items, or from an index.

The sparse products are those of the item store. The dense ones are too where they cost less than a search would: the
sums are then ranked as they are. Else, and under a condition on items, the index ranks by one vector at a time, and its
lists are read as far as it takes to prove the first places of the sum (the threshold algorithm: Fagin, Lotem and Naor
2001, doi:10.1145/375551.375567), in blocks that grow, as a search engine starts anew for a longer one. Without a
condition no list is needed of the sparse products, which are there: the items that have one are scored whole, and those
that have none are in the order of their dense products. Nor is one where there are too many partners for the index to
hold them: of the items with the best sparse products the condition is then judged one by one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf

import numpy as np

from molar_retrieval import columns
from molar_retrieval.ranking.candidates import Array, Candidates, CandidateSource, Rows, Scan
from molar_retrieval.ranking.index_protocol import Index, Search
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.ranking.request import RankingRequest
from molar_retrieval.ranking.sparse_index import Sums

DEPTH = 200
"""How much of each list is read at first: enough to settle ten of 3,883 items in one round even where the lists have
nothing to do with each other."""
_AHEAD = 2  # of two lists so many times the candidates are read: that finds 99 of 100 of the best sums
_BESIDE = 1 << 12
"""So many items with the best sparse products are scored whole, in a millisecond; what the others may have is added to
the bound."""
_GROWTH = 4


def source_of(
    index: Index | None,
    store: ItemStore,
    request: RankingRequest,
    dense: Array | None = None,
    *,
    sums: Callable[[], Sums] | None = None,
    fulfilling: Callable[[Rows], Array] | None = None,
) -> "CandidateSource":
    """Where the candidates of a request come from: the user's ``dense`` products, or the index where there are none.

    Args:
        index: The index, which is searched without products.
        store: The items.
        request: The request, which has a user.
        dense: The user's :func:`products`.
        sums: Gives those of the user's sparse vector, where they are known.
        fulfilling: Says which of some rows fulfil the request's condition; needed under one, unless an index that holds
            partners is searched.
    """
    assert request.user is not None
    made = partial(store.sums, request.user.sparse) if sums is None else sums
    if dense is not None:
        return Scan(store, request, made, dense, fulfilling)
    assert index is not None
    return _Search(index, store, request, made, fulfilling)


class _Search(CandidateSource):
    def __init__(
        self,
        index: Index,
        store: ItemStore,
        request: RankingRequest,
        sums: Callable[[], Sums],
        fulfilling: Callable[[Rows], Array] | None,
    ) -> None:
        super().__init__(store, request, sums)
        self._count, self._dims = len(index), index.spec.dims
        self._by_index = request.where is not None and columns.ITEM_WEIGHTS in index.spec.sparse
        self._fulfilling = fulfilling
        assert request.where is None or self._by_index or fulfilling is not None
        self._hidden, self._where = request.hidden, request.where
        self._tops = partial(index.tops, exclude=request.hidden, where=request.where)
        self._ahead: tuple[int, list[tuple[int, float]]] = 0, []  # so many cold items are known already

    def known(self, k: int, size: int, ahead: int = 0) -> Candidates:
        depth = max(DEPTH, size if self._where is None else _AHEAD * size)
        while True:
            depth = min(depth, self._count + 1)
            dense, sparse = self._lists(depth, ahead)
            beside, most = self._by_sparse(depth, sparse)
            bound = dense[-1][1] + max(most, 0.0) if len(dense) == depth else -inf
            best = self._scored(np.union1d(_rows(dense), beside), cold=False)
            if bound == -inf or (len(best) >= k and best.scores[k - 1] > bound):
                return best.take(slice(size))
            depth, ahead = depth * _GROWTH, 0

    def cold(self, size: int) -> Candidates:
        asked, found = self._ahead
        if size > asked:
            (found,) = self._tops([Search(columns.COLD_START, self._user.vector, size)])
        return self._scored(_rows(found[:size]), cold=True)

    def _new(self, size: int) -> tuple[Rows, Rows]:  # of each kind so many
        names = [name for name in (columns.COLD_START, columns.EMERGING) if name in self._dims]
        found = dict(zip(names, self._tops([Search(name, self._user.vector, size) for name in names]), strict=True))
        cold, rows = (_rows(found.get(name, [])) for name in (columns.COLD_START, columns.EMERGING))
        emerging = self._store.emerging
        return cold, rows[:0] if emerging is None else np.searchsorted(emerging.rows, rows)

    def _lists(self, depth: int, ahead: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """The best by dense and by sparse products; the latter only under a condition, where the index holds these."""
        searches = [Search(*self._store.asked(self._user.vector), depth)]
        if self._by_index and len(self.sums.without_zeros()[0]):
            searches.append(Search(columns.ITEM_WEIGHTS, self._store.asked_sparse(self._user.sparse), depth))
        cold = [Search(columns.COLD_START, self._user.vector, ahead)] if ahead else []
        dense, *others = self._tops([*searches, *cold])
        if cold:
            self._ahead = ahead, others.pop()
        return dense, others[0] if others else []

    def _by_sparse(self, depth: int, found: list[tuple[int, float]]) -> tuple[Rows, float]:
        """Rows with sparse products, those of the best at least, and what those that are left out have at most.

        Where the index holds partners, they are ``found`` under a condition by a search for ``depth`` of them.
        """
        rows, totals = self.sums.without_zeros()
        if not len(rows):
            return rows, 0.0
        if self._by_index:
            return _rows(found), found[-1][1] if len(found) == depth else 0.0
        depth = max(depth, _BESIDE)
        hidden = np.fromiter(self._hidden, np.int64, len(self._hidden))
        places = np.minimum(np.searchsorted(rows, hidden), len(rows) - 1)
        shown = np.ones(len(rows), bool)
        shown[places[rows[places] == hidden]] = False
        rows, totals, most = rows[shown], totals[shown], 0.0
        if len(rows) > depth:
            places = np.argpartition(-totals, depth - 1)[:depth]
            rows, most = rows[places], float(totals[places[-1]])
        if self._where is not None and self._fulfilling is not None:
            rows = rows[self._fulfilling(rows)]
        return rows, most


def _rows(found: Sequence[tuple[int, float]]) -> Rows:
    return np.fromiter((row for row, _ in found), np.int64, len(found))
