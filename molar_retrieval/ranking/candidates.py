"""Candidates for one user: the items with the best sums of a dense and a sparse product, and the best cold items.

Where both products of all items are taken, the sums are ranked as they are; :mod:`molar_retrieval.ranking.searched` has
what asks an index.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from molar_retrieval import columns
from molar_retrieval.ranking.best import places_of_best
from molar_retrieval.ranking.cold_start import merge
from molar_retrieval.ranking.index_protocol import Index, Vector
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.ranking.places import TOP, Places
from molar_retrieval.ranking.request import RankingRequest
from molar_retrieval.ranking.sparse_index import Sums

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
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
class Guessed:
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


def products(store: ItemStore, requests: Sequence[RankingRequest]) -> list[Array | None]:
    """The dense products of all items with each user; None where a search costs less, or under a condition."""
    asked = {n: one.user for n, one in enumerate(requests) if one.user is not None and one.where is None}
    found: list[Array | None] = [None] * len(requests)
    if asked and store.dense.size <= MOST_SCANNED * min(len(asked), _OF_A_BATCH):
        users = {id(user): user.vector for user in asked.values()}  # somebody may be asked about more than once
        known = dict(zip(users, store.products(list(users.values())), strict=True))
        for number, user in asked.items():
            found[number] = known[id(user)]
    return found


def find(index: Index, places: Places, source: "CandidateSource", request: RankingRequest, size: int) -> Candidates:
    """At most ``size`` best items for the user of a request, cold ones in their ``places`` among the first ten.

    So many places as the request asks for are exactly those of a full scan, as far as the index itself is exact; those
    behind are the best that the lists of the ``source`` showed.
    """
    wanted, has_cold = max(request.query.k, TOP), columns.COLD_START in index.spec.dims
    known = source.known(wanted, max(size, wanted), wanted if has_cold else 0)
    if not has_cold:
        return known.first(size)
    cold = source.cold(wanted if len(known) >= size else max(size, wanted))
    order, lift = merge(known.scores, cold.scores, places)
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

    def __init__(self, store: ItemStore, request: RankingRequest, sums: Callable[[], Sums]) -> None:
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
        """Rows of newcomers, and places among the emerging items: at least the best ``size`` guesses of both."""

    def new(self, size: int) -> "Guessed":
        """At most ``size`` newcomers and emerging items, the best guesses first."""
        cold, places = self._new(size)
        emerging, vector = self._store.emerging, self._user.vector
        guesses = self._store.addends(vector, self.sums, cold).sum(axis=1)
        rows = cold
        if emerging is not None:
            rows = np.concatenate([cold, emerging.rows[places]])
            guesses = np.concatenate([guesses, emerging.guesses(vector, places)])
        best = np.lexsort((rows, -guesses))[:size]
        return Guessed(self._store, vector, self.sums, rows[best], guesses[best], best < len(cold))

    def _scored(self, rows: npt.NDArray[np.int64], cold: bool) -> Candidates:
        return scored(self._store, self._user.vector, self.sums, rows, cold)


class Scan(CandidateSource):
    """All sums of one user, of which the best are taken."""

    def __init__(
        self,
        store: ItemStore,
        request: RankingRequest,
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
    def emerging(self) -> Array:
        """About what is guessed of the emerging items, shape (E,)."""
        assert self._store.emerging is not None
        return self._store.emerging.products([self.vector])[0]

    def known(self, k: int, size: int, ahead: int = 0) -> Candidates:
        """The best ``size``."""
        return self._best((self._store.known & self.shown).nonzero()[0], size, cold=False)

    def cold(self, size: int) -> Candidates:
        """The same of the others."""
        return self._best(self._store.cold_rows[self.shown[self._store.cold_rows]], size, cold=True)

    def _new(self, size: int) -> tuple[Rows, Rows]:
        rows = self._store.cold_rows[self.shown[self._store.cold_rows]]
        emerging, guesses, shown = self._store.emerging, self.scores[rows], rows[:0]
        if emerging is not None:
            shown = self.shown[emerging.rows].nonzero()[0]
            guesses = np.concatenate([guesses, self.emerging[shown]])
        best = places_of_best(guesses, size)
        cold = int(best.searchsorted(len(rows)))
        return rows[best[:cold]], shown[best[cold:] - len(rows)]

    def _best(self, rows: Rows, size: int, cold: bool) -> Candidates:
        return self._scored(rows[places_of_best(self.scores[rows], size)], cold).first(size)
