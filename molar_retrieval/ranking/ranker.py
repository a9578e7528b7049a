"""From users' vectors to the lists that are shown: candidates, the second stage, rules that weigh, composition."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking import diversity
from molar_retrieval.ranking.candidates import Candidates, CandidateSource, find, joined, products, scored, source_of
from molar_retrieval.ranking.diversity import diversify
from molar_retrieval.ranking.exploration import POOL, explored
from molar_retrieval.ranking.filters import Expression, both
from molar_retrieval.ranking.index_protocol import Index, StoredItem
from molar_retrieval.ranking.item_store import ItemStore, Sums
from molar_retrieval.ranking.objectives import TOP, Objective, ObjectiveScale, Slots
from molar_retrieval.ranking.query import Exploration, Listing, ResolvedQuery, Rows
from molar_retrieval.ranking.ranked_list import RankedList
from molar_retrieval.ranking.reranker import CANDIDATES, Reranker, moves

if TYPE_CHECKING:
    from molar_retrieval.ranking.rules import ActiveRule

Array = npt.NDArray[Any]
_PER_PLACE = 20  # candidates for each place of a long list
_GROWTH = 4
_TOGETHER = 125  # requests whose sums with all items are held at a time, at most
_MOST_SUMS = 1 << 22  # sums of items with users that are held at a time
_TOLD = 100  # items of a rule of which is told that they cannot be pinned; so many are enough to see that it is wrong
_REMEMBERED = 16_384  # items whose attributes are kept in memory at most
_MOST_PRODUCTS = 1 << 24  # products of items with users that are held at a time
_MOST_FULFILLING = 1 << 25  # items times conditions of which is remembered whether the one fulfils the other


@dataclass(frozen=True, eq=False)
class _List:
    """A request, how many candidates are looked at first, and what these come from."""

    request: ResolvedQuery
    size: int
    source: CandidateSource


class Ranker:
    """Ranks the items of an index and a store, which are the same; cold ones get ``slots`` among the first ten.

    Requests that name a draw get the slots of an ``exploration`` instead, if there is one.
    """

    def __init__(
        self,
        index: Index,
        store: ItemStore,
        slots: Slots,
        reranker: Reranker | None = None,
        exploration: Exploration | None = None,
    ) -> None:
        self.index, self.store, self.slots, self.reranker = index, store, slots, reranker
        self.exploration = exploration
        self._stored: dict[int, StoredItem] = {}
        self._named: dict[str, int | None] = {}
        self._fulfilling: dict[Expression, npt.NDArray[np.int8]] = {}

    def for_objective(self, objective: Objective, factors: ObjectiveScale) -> "Ranker":
        """What ranks the same items for another aim, by its factors: both share what is read of the items.

        It has no second stage, as that has learned from lists of the default aim.
        """
        other = copy.copy(self)
        other.store, other.reranker, other.slots = self.store.for_objective(factors), None, objective.slots(self.slots)
        return other

    def rank(self, requests: Sequence[ResolvedQuery]) -> Iterator[Listing]:
        """The list of each request, which has a user; many at once take dense products and ask the second stage."""
        return (one.listing() for one in self.ranked(requests))

    def ranked(self, requests: Sequence[ResolvedQuery]) -> Iterator[RankedList]:
        """The same lists as columns."""
        size = max(1, _MOST_PRODUCTS // max(1, len(self.store)))
        for begin in range(0, len(requests), size):
            yield from self._ranked(requests[begin : begin + size])

    def parts(self, requests: Sequence[ResolvedQuery], rows: Sequence[Rows]) -> Iterator[dict[int, dict[str, float]]]:
        """The addends of the scores of some rows for the user of each request, whether or not the list has them.

        Of each request they are by row, and what cannot come for its user is left out. An item that is not among the
        candidates stands behind them: a cold one is lowered to the last of these.
        """
        for some in self._blocks(len(requests)):
            yield from self._parts(requests[some], rows[some])

    def _parts(self, requests: Sequence[ResolvedQuery], rows: Sequence[Rows]) -> Iterator[dict[int, dict[str, float]]]:
        requests = [replace(request, draw=None) for request in requests]
        lists = self._lists(requests, products(self.store, requests))
        found = [
            self._with_others(one, self._found(one, CANDIDATES), some) for one, some in zip(lists, rows, strict=True)
        ]
        for request, own, some in zip(requests, self._reranked(requests, found), rows, strict=True):
            rules = request.weighing
            boosts = diversity.boosts(rules, own.rows, self, own.scores, request.now).sum(axis=1)
            places = {int(row): place for place, row in enumerate(own.rows)}
            there = np.array([places[int(row)] for row in some if int(row) in places], np.int64)
            listing = RankedList.of(self.store.names, own.take(there), there, boosts[there]).listing()
            yield {placed.row: dict(placed.parts) for placed in listing.places}

    def _with_others(self, one: _List, found: Candidates, rows: Rows) -> Candidates:
        """The candidates, and behind them those of some rows that are not among them but may come."""
        request = one.request
        missing = [int(row) for row in rows if row not in request.hidden and row not in found.rows]
        if request.where is not None:
            missing = [item.row for item in self.stored(missing) if item.fulfils(request.where)]
        if not missing or request.user is None:
            return found
        sums, behind = one.source.sums, found.scores.min(initial=np.inf)
        for cold in (False, True):
            some = np.array([row for row in missing if bool(self.store.cold[row]) is cold], np.int64)
            others = scored(self.store, request.user.vector, sums, some, cold)
            if cold:
                others = replace(others, lift=np.minimum(0.0, behind - others.scores))
            found = joined(found, others)
        return found

    def stored(self, rows: Rows) -> list[StoredItem]:
        """What the index holds of some items, in their order; the last thousands are remembered."""
        wanted = [int(row) for row in rows]
        known = self._stored
        missing = [row for row in wanted if row not in known]
        if len(known) + len(missing) > _REMEMBERED:
            known = self._stored = {row: known[row] for row in wanted if row in known}
        known |= {item.row: item for item in self.index.fetch(missing)} if missing else {}
        return [known[row] for row in wanted]

    def fulfilling(self, condition: Expression, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of some items a condition means, shape (rows,); what was found is remembered."""
        known = self._fulfilling.get(condition)
        if known is None:
            while self._fulfilling and (len(self._fulfilling) + 1) * len(self.store) > _MOST_FULFILLING:
                self._fulfilling.pop(next(iter(self._fulfilling)), None)
            known = self._fulfilling[condition] = np.full(len(self.store), -1, np.int8)
        wanted = np.asarray(rows, np.int64)
        unknown = wanted[known[wanted] < 0]
        for begin in range(0, len(unknown), _REMEMBERED):
            some = unknown[begin : begin + _REMEMBERED]
            known[some] = [item.fulfils(condition) for item in self.stored(some)]
        return known[wanted] > 0

    def _ranked(self, requests: Sequence[ResolvedQuery]) -> Iterator[RankedList]:
        dense = products(self.store, requests)
        for some in self._blocks(len(requests)):
            lists = self._lists(requests[some], dense[some])
            found = [self._found(one, one.size) for one in lists]
            for one, own in zip(lists, self._reranked(requests[some], found, whole=False), strict=True):
                yield self._shaped(one, own) if one.request.shaped else self._plain(one, own)

    def _blocks(self, count: int) -> Iterator[slice]:
        """So many requests, some at a time: of a large catalogue fewer."""
        size = max(1, min(_TOGETHER, _MOST_SUMS // max(1, len(self.store))))
        return (slice(begin, begin + size) for begin in range(0, count, size))

    def _lists(self, requests: Sequence[ResolvedQuery], dense: Sequence[Array | None]) -> list[_List]:
        """Some requests with what their candidates come from."""
        return [
            _List(request, self._first(request), self._source(request, own, None))
            for request, own in zip(requests, dense, strict=True)
        ]

    def _source(self, request: ResolvedQuery, dense: Array | None, sums: Callable[[], Sums] | None) -> CandidateSource:
        judged = None if request.where is None else partial(self.fulfilling, request.where)
        return source_of(self.index, self.store, request, dense, sums=sums, fulfilling=judged)

    def _draws(self, request: ResolvedQuery) -> bool:
        """Whether new items are tried in a list."""
        return request.draw is not None and self.exploration is not None

    def _first(self, request: ResolvedQuery) -> int:
        """How many candidates are looked at first: of plain lists fewer."""
        if request.shaped:
            return max(CANDIDATES, _PER_PLACE * request.query.k)
        return max(request.query.k, CANDIDATES if request.query.rerank and self.reranker is not None else 0)

    def _found(self, one: _List, size: int) -> Candidates:
        """The candidates; known items alone where new ones are to be drawn."""
        if not self._draws(one.request):
            return find(self.index, self.slots, one.source, one.request, size)
        return one.source.known(_plain_size(one.request), self._depth(one, size))

    def _depth(self, one: _List, size: int) -> int:
        """So many known items are looked for; what is drawn may be among them, and is taken out."""
        return max(size, max(one.request.query.k, TOP) + (TOP if self._draws(one.request) else 0))

    def _explored(self, one: _List, found: Candidates, size: int, *, whole: bool = True) -> Candidates:
        """The candidates with new items, of which ``size`` may be needed, where these are drawn."""
        draw = one.request.draw
        if draw is None or self.exploration is None:
            return found
        new = one.source.new(max(POOL, size))
        return explored(found, new, self.exploration, draw, one.request.query.k, whole=whole)

    def _reranked(
        self, requests: Sequence[ResolvedQuery], found: Sequence[Candidates], *, whole: bool = True
    ) -> list[Candidates]:
        """Candidates in the order of the second stage; not ``whole``: so many as a plain list is made of."""
        changed = list(found)
        some = [n for n, (own, one) in enumerate(zip(requests, found, strict=True)) if len(one) and own.query.rerank]
        if self.reranker is None or not some:
            return changed
        first = [found[number].first(CANDIDATES) for number in some]
        histories = [user.history for number in some if (user := requests[number].user) is not None]
        moved = moves(self.store, self.reranker, first, histories)
        sizes = [None if whole or requests[number].shaped else _plain_size(requests[number]) for number in some]
        for number, own, size in zip(some, moved, sizes, strict=True):
            changed[number] = found[number].reranked(own, size)
        return changed

    def _plain(self, one: _List, ordered: Candidates) -> RankedList:
        """The best of what may come; what is drawn may be among the first candidates, and is taken out."""
        k = one.request.query.k
        found = self._explored(one, ordered.first(_plain_size(one.request)), k, whole=False)
        own = found.first(k)
        return RankedList.of(self.store.names, own, np.arange(len(own)))

    def _shaped(self, one: _List, ordered: Candidates) -> RankedList:
        """The list that rules, diversity or calibration shape, from more and more candidates until it is full."""
        size = one.size
        while True:
            composed = self._composed(one, self._explored(one, ordered, size))
            if len(composed) == one.request.query.k or len(ordered) < size:
                return composed
            size *= _GROWTH
            (ordered,) = self._reranked([one.request], [self._found(one, size)])

    def _composed(self, one: _List, found: Candidates) -> RankedList:
        request = one.request
        k, rules = request.query.k, request.weighing
        found, pinned, notes = self._with_wanted(one, found)
        if self._draws(request):  # what else is listed depends on what is drawn
            found = replace(found, propensity=np.full(len(found), np.nan))
        boosts = diversity.boosts(rules, found.rows, self, found.scores, request.now)
        by_score = np.argsort(np.lexsort((found.rows, -found.scores)))
        order = np.lexsort((by_score, -(found.scores + boosts.sum(axis=1))))
        found, boosts, by_score = found.take(order), boosts[order], by_score[order]
        places = {int(row): n for n, row in enumerate(found.rows)}
        pins = {at: (places[row], name) for at, (row, name) in pinned.items()}
        composition = diversity.composition(request, found.rows, pins, self)
        vectors = np.asarray(self.store.content[found.rows], np.float32) if request.query.diversity else None
        choices = diversify(found.scores + boosts.sum(axis=1), k, composition, vectors)
        chosen = np.array([choice.candidate for choice in choices], np.int64)
        causes = []
        for own, choice in zip(boosts[chosen], choices, strict=True):
            titles = [rules[n].rule.title for n in np.flatnonzero(own)]
            causes.append((*titles, *(cause for cause in choice.causes if cause not in titles)))
        notes += diversity.unmet(composition, choices)
        added = boosts[chosen].sum(axis=1)
        return RankedList.of(self.store.names, found.take(chosen), by_score[chosen], added, causes, notes)

    def _with_wanted(self, one: _List, found: Candidates) -> tuple[Candidates, dict[int, tuple[int, str]], list[str]]:
        """The candidates with those that rules want and that did not come by themselves; the pinned rows by place."""
        request, k = one.request, one.request.query.k
        extra: list[Candidates] = []
        pinned: dict[int, tuple[int, str]] = {}
        notes: list[str] = []
        for active in request.weighing:
            if active.rule.action in ("boost", "at_least") and active.condition is not None:
                wanted = replace(request, where=both(request.where, active.condition), draw=None)
                extra.append(self._wanted(one, wanted, max(k, CANDIDATES // 4)))
        for active in (pin for pin in request.pins if pin.rule.at <= k):
            free = [place for place in range(active.rule.at - 1, k) if place not in pinned]
            rows, problems = self._pins(active, request, len(free))
            notes += problems
            pinned |= {place: (row, active.rule.title) for place, row in zip(free, rows, strict=False)}
        if pinned and request.user is not None:
            rows_ = np.array([row for row, _ in pinned.values()])
            extra.append(scored(self.store, request.user.vector, one.source.sums, rows_))
        if not extra:
            return found, pinned, notes
        every = joined(found, *extra)
        _, first = np.unique(every.rows, return_index=True)
        return every.take(np.sort(first)), pinned, notes

    def _wanted(self, one: _List, request: ResolvedQuery, size: int) -> Candidates:
        """The best of what a rule wants, by a request that says so."""
        source = self._source(request, None, partial(getattr, one.source, "sums"))
        return find(self.index, self.slots, source, request, size)

    def _pins(self, active: "ActiveRule", request: ResolvedQuery, places: int) -> tuple[list[int], list[str]]:
        """Rows that a rule pins, so many as there are places, and sentences about those that it cannot."""
        rows: list[int] = []
        notes: list[str] = []
        pins, title = active.rule.pin or (), active.rule.title
        found = self._rows(pins)
        if request.where is not None:
            self.stored([row for row in found if row is not None][:places])  # at once, they are asked for one by one
        for item_id, row in zip(pins, found, strict=True):
            if len(rows) == places:
                break
            if row is None:
                notes.append(f"{title}: the catalogue has no item {item_id!r}")
            elif row in request.hidden:
                notes.append(f"{title}: the item {item_id!r} is hidden: seen, excluded, or not for sale")
            elif request.where is not None and not self.stored([row])[0].fulfils(request.where):
                notes.append(f"{title}: the filter or another rule leaves out the item {item_id!r}")
            else:
                rows.append(row)
        return rows, notes[:_TOLD]

    def _rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """Rows of items that rules name; they are looked up once."""
        if missing := [item_id for item_id in item_ids if item_id not in self._named]:
            self._named |= dict(zip(missing, self.index.rows(missing), strict=True))
        return [self._named[item_id] for item_id in item_ids]


def _plain_size(request: ResolvedQuery) -> int:
    """So many candidates a plain list is made of: what is drawn for it may be among them, and is taken out."""
    return max(request.query.k, TOP) + TOP
