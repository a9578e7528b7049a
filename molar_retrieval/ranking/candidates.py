"""Candidates for a user: the items with the best dense plus sparse products, and the best cold-start items."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from math import inf
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from molar_retrieval import columns
from molar_retrieval.ranking.index_protocol import Index, Search, Vector
from molar_retrieval.ranking.item_store import ItemStore, Sums
from molar_retrieval.ranking.objectives import TOP, Slots
from molar_retrieval.ranking.query import ResolvedQuery

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
_ROUNDING = 1e-5
"""By how much products that are taken at once may differ from those that are told, in parts of a score: all that may be
among the best is looked at again."""
_BLOCKS = (16, 4)  # so many scores make up a block, where there are enough blocks
_ENOUGH = 4  # times as many as there are best ones


def places_of_best(scores: Array, size: int) -> Rows:
    """Places of the best ``size`` scores, ascending, and of those that may be as good."""
    if len(scores) <= size:
        return np.arange(len(scores))
    first: Rows = (scores >= _least(scores, size)).nonzero()[0]
    if len(first) <= _ENOUGH * size:
        return first
    some = scores[first]
    return first[some >= _as_good(float(np.partition(some, len(some) - size)[len(some) - size]))]


def _least(scores: Array, size: int) -> float:
    """What all scores that are as good as the best ``size`` have at least, shape (n,)."""
    block = next((one for one in _BLOCKS if len(scores) // one >= _ENOUGH * size), 0)
    if block:
        count = len(scores) // block
        scores = scores[: count * block].reshape(block, count).max(axis=0)
    return _as_good(float(np.partition(scores, len(scores) - size)[len(scores) - size]))


def _as_good(score: float) -> float:
    return score - _ROUNDING * max(1.0, abs(score))


Mask = npt.NDArray[np.bool_]


class Shared(NamedTuple):
    """How the first ten slots are shared with f cold items."""

    slots: Slots  # of the cold ones
    after: Rows  # how many known items stand before each of them, shape (f,)
    number: Rows  # which one each is between the same two known items, from 1, shape (f,)
    parts: Rows  # into how many parts they divide the gap, shape (f,)
    order: Rows  # the ten, known items first, as they stand, shape (10,)

    @property
    def mixed(self) -> bool:
        """Whether known items stand behind cold ones."""
        return len(self.slots) > 0 and self.slots[0] + len(self.slots) <= TOP

    def scores(self, before: Array, behind: Array) -> Array:
        """Of the cold items, spread evenly between those of the known ones before and behind, shapes (..., f)."""
        scores: Array = before - (before - behind) * self.number / self.parts
        return scores

    def within(self, k: int) -> int:
        """How many of the cold ones are among the first ``k``."""
        return sum(place <= k for place in self.slots)


def shared(slots: Slots, cold: int) -> Shared:
    """The rule for cold items: they have these ``slots``; of fewer ``cold`` ones than slots all have one, the last.

    It is for lists in which known items fill the other slots and the one behind. Where they are too few, they all
    stand before the cold ones.
    """
    return _shared(slots[max(0, len(slots) - cold) :])


@cache
def _shared(slots: Slots) -> Shared:
    own, number = np.array(slots, np.int64), np.arange(1, len(slots) + 1)
    after = own - number
    known = np.array([place for place in range(1, TOP + 1) if place not in slots], np.int64)
    order = np.argsort(np.concatenate([known, own]))
    return Shared(slots, after, number - np.searchsorted(after, after), (after[:, None] == after).sum(1) + 1, order)


def merge(known: Array, cold: Array, slots: Slots) -> tuple[Rows, Array]:
    """Merge two ranked lists: cold items that have a place are :func:`shared` between the known ones around it.

    All further ones are lifted by as much as the last of them; without any, the best is level with the tenth known item
    or the last one. Without known items nothing is lifted. Scores are best first, at least the first ten of each kind
    or all. Returns the order of both, cold items numbered after the known ones, and what is added to the score of each
    as numbered.
    """
    known, cold = np.asarray(known, np.float64), np.asarray(cold, np.float64)
    count, own, lifted = len(known), shared(slots, len(cold)), cold.copy()
    first = len(own.slots) if count > TOP - len(own.slots) else 0
    if count and len(cold):
        anchor = max(0, first - 1)
        lifted[: anchor + 1] = own.scores(known[own.after - 1], known[own.after]) if first else known[:TOP][-1]
        # From there on, as `score + (level - anchor)` may round to a bit above it.
        lifted[anchor + 1 :] = lifted[anchor] + (cold[anchor + 1 :] - cold[anchor])
    scores, place = np.concatenate([known, lifted]), np.arange(count + len(cold))
    is_cold, turn = place >= count, np.full(len(place), TOP)
    if first:
        turn[np.concatenate([place[: TOP - first], place[count : count + first]])[own.order]] = np.arange(TOP)
    # Behind the slots that are given away, of equal scores known items come first.
    order = np.lexsort((place, is_cold, -scores, turn))
    return order, np.concatenate([np.zeros(count), lifted - cold])


def lifted(scores: Array, cold: Mask, allowed: Mask, slots: Slots) -> Array:
    """Scores, shape (users, n_items), with cold items in their slots as in :func:`merge`; they are overwritten.

    ``allowed``, of the same shape, are the items that may be recommended to a user.
    """
    new = np.flatnonzero(cold)
    if not len(new):
        return scores
    known, _ = _best(np.where(allowed & ~cold, scores, -np.inf), TOP)
    guessed, at = _best(np.where(allowed[:, new], scores[:, new], -np.inf), max(1, len(slots)))
    users = np.flatnonzero(np.isfinite(known[:, 0]) & np.isfinite(guessed[:, 0]))
    count = np.isfinite(known).sum(axis=1)
    number = np.minimum(np.isfinite(guessed).sum(axis=1), len(slots))
    number[count <= TOP - number] = 0
    for first in np.unique(number[users]).tolist():
        some = users[number[users] == first]
        if first:
            own = shared(slots, first)
            placed = own.scores(known[some][:, own.after - 1], known[some][:, own.after]).astype(scores.dtype)
        else:
            # Just below the known item, which keeps its place, however the sum is rounded.
            placed = np.nextafter(known[some, count[some] - 1], scores.dtype.type(-np.inf))[:, None]
        here, anchor = np.ix_(some, new), max(0, first - 1)
        scores[here] = placed[:, -1:] + (scores[here] - guessed[some, anchor][:, None])
        scores[some[:, None], new[at[some, :first]]] = placed[:, :first]
    return scores


def _best(scores: Array, count: int) -> tuple[Array, Rows]:
    """The best scores of each row, best first, and where they stand, shapes (rows, at most ``count``)."""
    count = min(count, scores.shape[1])
    places = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    return np.take_along_axis(scores, places, axis=1), places


def kept(scores: Array, moved: Array, cold: Mask) -> Array:
    """What a second stage adds where cold items keep their places, shape (C,).

    A cold item comes between the known items that stand around its place afterwards; those before the first known item
    and behind the last one go with it. ``scores`` are of a merged list, best first, shape (C,); ``moved`` is added to
    its known items, best first, shape (K,), which are those that are not ``cold``, shape (C,).
    """
    places = np.flatnonzero(~cold)
    added: Array = np.zeros(len(scores))
    if not len(places):
        return added
    added[places] = moved
    before = scores[places]
    after = -np.sort(-(before + moved))
    new = np.flatnonzero(cold)
    first, last = new < places[0], new > places[-1]
    added[new] = np.interp(new, places, after) - scores[new]
    added[new[first]], added[new[last]] = after[0] - before[0], after[-1] - before[-1]
    return added


MOST_SCANNED = 1 << 22
"""Numbers in the items' dense vectors up to which one product with all of them costs less than a search."""
_OF_A_BATCH = 4  # so many times more for a batch of users, whose products are taken at once


@dataclass(frozen=True, eq=False)
class Candidates:
    """Ranked items, best first."""

    rows: npt.NDArray[np.int64]  # of items, shape (C,)
    parts: Array  # addends of their scores by the store's parts, shape (C, P)
    lift: Array  # what is added to a cold item's, 0 for others, shape (C,)
    cold: npt.NDArray[np.bool_]  # had no training interactions, shape (C,)
    moved: Array  # what a second stage adds, shape (C,)
    propensity: Array  # see :mod:`molar_retrieval.ranking.exploration`, nan where it is not told, shape (C,)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> tuple[Array, ...]:
        """The arrays, in their order."""
        return self.rows, self.parts, self.lift, self.cold, self.moved, self.propensity

    @property
    def scores(self) -> Array:
        """The sums, shape (C,)."""
        scores: Array = self.parts.sum(axis=-1) + self.lift + self.moved
        return scores

    def take(self, places: Array | slice) -> "Candidates":
        """Some of them, in the order of ``places``."""
        if isinstance(places, slice):
            return Candidates(*[column[places] for column in self.columns])
        return Candidates(*[column.take(places, axis=0) for column in self.columns])

    def first(self, count: int) -> "Candidates":
        """At most so many of them, the best."""
        return self if len(self) <= count else self.take(slice(count))

    def reranked(self, moved: Array, size: int | None = None) -> "Candidates":
        """In the order of a second stage, which adds ``moved`` to the first ones; see :func:`descent` for the rest.

        Of them the first ``size``.
        """
        scores = self.scores
        if len(moved) < len(self):
            moved = np.concatenate([moved, np.full(len(self) - len(moved), -descent(scores, moved))])
        return replace(self, moved=moved).take(np.argsort(-(scores + moved), kind="stable")[:size])


class New(Protocol):
    """New items, the best guess first, with the guess as their score; :class:`Candidates` are some, too."""

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Of the items, shape (C,)."""

    @property
    def cold(self) -> npt.NDArray[np.bool_]:
        """Which had no training interactions, shape (C,)."""

    @property
    def scores(self) -> Array:
        """The guesses, shape (C,)."""

    def __len__(self) -> int: ...

    def take(self, places: Array) -> Candidates:
        """Some of them: their parts are those that they have elsewhere, ``lift`` is what the guess differs by."""


@dataclass(frozen=True, eq=False)
class ColdCandidates:
    """New items of which addends are made where they are wanted: few of them come into a list."""

    store: ItemStore
    vector: Vector  # of the user
    sums: Sums
    rows: npt.NDArray[np.int64]
    scores: Array
    cold: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Array) -> Candidates:
        """See :class:`New`."""
        rows = self.rows[places]
        parts, nothing = self.store.addends(self.vector, self.sums, rows), np.zeros(len(rows))
        return Candidates(rows, parts, self.scores[places] - parts.sum(axis=1), self.cold[places], nothing, nothing + 1)


def descent(scores: Array, moved: Array) -> float:
    """By how much the rest goes down behind first places that a second stage moves: as much as the least of these did.

    ``scores`` are best first; ``moved`` is for the first ones, at least one.
    """
    return max(0.0, float(scores[len(moved) - 1] - (scores[: len(moved)] + moved).min()))


def products(store: ItemStore, requests: Sequence[ResolvedQuery]) -> list[Array | None]:
    """The dense products of all items with each user; None where a search costs less, or under a condition."""
    asked = {n: one.user for n, one in enumerate(requests) if one.user is not None and one.where is None}
    found: list[Array | None] = [None] * len(requests)
    if asked and store.dense.size <= MOST_SCANNED * min(len(asked), _OF_A_BATCH):
        users = {id(user): user.vector for user in asked.values()}  # somebody may be asked about more than once
        known = dict(zip(users, store.products(list(users.values())), strict=True))
        for number, user in asked.items():
            found[number] = known[id(user)]
    return found


def find(index: Index, slots: Slots, source: "CandidateSource", request: ResolvedQuery, size: int) -> Candidates:
    """At most ``size`` best items for the user of a request, cold ones in their ``slots`` among the first ten.

    So many slots as the request asks for are exactly those of a full scan, as far as the index itself is exact; those
    behind are the best that the lists of the ``source`` showed.
    """
    wanted, has_cold = max(request.query.k, TOP), columns.COLD_START in index.spec.dims
    known = source.known(wanted, max(size, wanted), wanted if has_cold else 0)
    if not has_cold:
        return known.first(size)
    cold = source.cold(wanted if len(known) >= size else max(size, wanted))
    order, lift = merge(known.scores, cold.scores, slots)
    every = joined(known, cold)
    return replace(every, lift=lift).take(order[:size])


def joined(*found: Candidates) -> Candidates:
    """All of several candidates, one after the other."""
    return Candidates(*map(np.concatenate, zip(*(one.columns for one in found), strict=True)))


def scored(store: ItemStore, vector: Vector, sums: Sums, rows: npt.NDArray[np.int64], cold: bool = False) -> Candidates:
    """Some rows, the best first, equal scores by row."""
    rows = np.sort(rows)
    parts, nothing = store.addends(vector, sums, rows), np.zeros(len(rows))
    order = np.argsort(-parts.sum(axis=1), kind="stable")
    return Candidates(rows[order], parts[order], nothing, np.full(len(rows), cold), nothing, nothing + 1)


class CandidateSource(ABC):
    """Where the candidates of one request come from; what they are made of is made when it is first asked for."""

    def __init__(self, store: ItemStore, request: ResolvedQuery, sums: Callable[[], Sums]) -> None:
        assert request.user is not None
        self._store, self._user, self._made = store, request.user, sums
        self.vector = request.user.vector

    @cached_property
    def sums(self) -> Sums:
        """The sparse products of the user."""
        return self._made()

    @abstractmethod
    def known(self, k: int, size: int, ahead: int = 0) -> Candidates:
        """Good ``size`` items that had training interactions; the first ``k`` of them are exactly the best.

        So many of :meth:`cold` are looked for along with them as ``ahead`` says.
        """

    @abstractmethod
    def cold(self, size: int) -> Candidates:
        """The best ``size`` of the others."""

    @abstractmethod
    def _new(self, size: int) -> tuple[Rows, Rows]:
        """Rows of cold items, and places among the low-support ones: at least the best ``size`` guesses of both."""

    def new(self, size: int) -> "ColdCandidates":
        """At most ``size`` cold-start items and low-support items, the best guesses first."""
        cold, places = self._new(size)
        low_support, vector = self._store.low_support, self._user.vector
        guesses = self._store.addends(vector, self.sums, cold).sum(axis=1)
        rows = cold
        if low_support is not None:
            rows = np.concatenate([cold, low_support.rows[places]])
            guesses = np.concatenate([guesses, low_support.guesses(vector, places)])
        best = np.lexsort((rows, -guesses))[:size]
        return ColdCandidates(self._store, vector, self.sums, rows[best], guesses[best], best < len(cold))

    def _scored(self, rows: npt.NDArray[np.int64], cold: bool) -> Candidates:
        return scored(self._store, self._user.vector, self.sums, rows, cold)


class Scan(CandidateSource):
    """All sums of one user, of which the best are taken."""

    def __init__(
        self,
        store: ItemStore,
        request: ResolvedQuery,
        sums: Callable[[], Sums],
        dense: Array,
        fulfilling: Callable[[Rows], Array] | None,
    ) -> None:
        super().__init__(store, request, sums)
        assert request.where is None or fulfilling is not None
        self._hidden, self._dense, self._fulfilling = request.hidden, dense, fulfilling

    @cached_property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Which items may come, shape (n,)."""
        rows = np.fromiter(self._hidden, np.int64, len(self._hidden))
        shown = np.ones(len(self._store), bool)
        if self._fulfilling is not None:
            there = np.flatnonzero(self._store.known | self._store.cold)
            shown[:] = False
            shown[there] = self._fulfilling(there)
        shown[rows[rows < len(shown)]] = False
        return shown

    @cached_property
    def scores(self) -> Array:
        """About the sums of all items, shape (n,)."""
        scores = self._dense.astype(np.float64)
        self.sums.add_to(scores)
        return scores

    @cached_property
    def low_support(self) -> Array:
        """About what is guessed of the low-support items, shape (E,)."""
        assert self._store.low_support is not None
        products: Array = self._store.low_support.products([self.vector])[0]
        return products

    def known(self, k: int, size: int, ahead: int = 0) -> Candidates:
        """The best ``size``."""
        return self._best((self._store.known & self.shown).nonzero()[0], size, cold=False)

    def cold(self, size: int) -> Candidates:
        """The same of the others."""
        return self._best(self._store.cold_rows[self.shown[self._store.cold_rows]], size, cold=True)

    def _new(self, size: int) -> tuple[Rows, Rows]:
        rows = self._store.cold_rows[self.shown[self._store.cold_rows]]
        low_support, guesses, shown = self._store.low_support, self.scores[rows], rows[:0]
        if low_support is not None:
            shown = self.shown[low_support.rows].nonzero()[0]
            guesses = np.concatenate([guesses, self.low_support[shown]])
        best = places_of_best(guesses, size)
        cold = int(best.searchsorted(len(rows)))
        return rows[best[:cold]], shown[best[cold:] - len(rows)]

    def _best(self, rows: Rows, size: int, cold: bool) -> Candidates:
        return self._scored(rows[places_of_best(self.scores[rows], size)], cold).first(size)


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
    request: ResolvedQuery,
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
            neighbors is searched.
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
        request: ResolvedQuery,
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
        names = [name for name in (columns.COLD_START, columns.LOW_SUPPORT) if name in self._dims]
        found = dict(zip(names, self._tops([Search(name, self._user.vector, size) for name in names]), strict=True))
        cold, rows = (_rows(found.get(name, [])) for name in (columns.COLD_START, columns.LOW_SUPPORT))
        low_support = self._store.low_support
        return cold, rows[:0] if low_support is None else np.searchsorted(low_support.rows, rows)

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

        Where the index holds neighbors, they are ``found`` under a condition by a search for ``depth`` of them.
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
