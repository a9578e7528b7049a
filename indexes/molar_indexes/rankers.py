"""What ranks the items of a generation as they are now: a ranker for every aim that lists are asked for.

Of what somebody takes next it depends on the moment which weights answer: where those who come back have weights of
their own, requests of several people are ranked by several rankers.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from molar_indexes.generations import Generation
from molar_indexes.live_items import LiveItems
from molar_retrieval.ranking.objectives import NEXT_ITEM, Objective, served
from molar_retrieval.ranking.query import Query, ResolvedQuery

if TYPE_CHECKING:
    from molar_retrieval.ranking.ranked_list import RankedList
    from molar_retrieval.ranking.ranker import Ranker


class Rankers:
    """The rankers of one generation, those of the last state of its items; threads may share them."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._known: tuple[LiveItems, dict[Objective, Ranker]] | None = None

    def objective(self, query: Query) -> Objective:
        """The aim whose weights answer a query; RequestError if none were chosen for the horizon that it names."""
        own = self._generation
        return served(own.objectives, Objective(query.objective or own.default_objective, query.seen))

    def objective_of(self, request: ResolvedQuery) -> Objective:
        """The same for the user of a request, who may come back at its moment, or be in the middle of a visit."""
        own, query, last = self._generation, request.query, 0 if request.user is None else request.user.last
        now = time.time() if request.now is None else request.now.timestamp()
        return served(own.objectives, Objective(query.objective or own.default_objective, query.seen).at(now, last))

    def for_request(self, items: LiveItems, request: ResolvedQuery) -> "Ranker":
        """What ranks the items for the user of a request."""
        return self.of(items, self.objective_of(request))

    def ranked(self, items: LiveItems, requests: Iterable[ResolvedQuery]) -> "Iterator[RankedList]":
        """The lists of many requests, in their order; see :meth:`Ranker.ranked`."""
        for objective, some in groupby(requests, self.objective_of):
            yield from self.of(items, objective).ranked(list(some))

    def parts(
        self, items: LiveItems, requests: Sequence[ResolvedQuery], rows: Sequence[Sequence[int]]
    ) -> Iterator[dict[int, dict[str, float]]]:
        """The addends of some rows' scores for each request; see :meth:`Ranker.parts`."""
        for objective, group in groupby(zip(requests, rows, strict=True), lambda one: self.objective_of(one[0])):
            some, own = zip(*group, strict=True)
            yield from self.of(items, objective).parts(some, own)

    def of(self, items: LiveItems, objective: Objective) -> "Ranker":
        """What ranks the items for an aim of these."""
        known = self._known
        if known is None or known[0] is not items:
            known = self._known = items, {NEXT_ITEM: self._default(items)}
        if objective not in known[1]:
            known[1][objective] = known[1][NEXT_ITEM].for_objective(
                objective, self._generation.objectives[objective.name]
            )
        return known[1][objective]

    def _default(self, items: LiveItems) -> "Ranker":
        from molar_retrieval.ranking.ranker import Ranker

        own, second = self._generation, self._generation.table.reranker
        store = items.index.store(own.table.items, {} if second is None else second.numbers)
        return Ranker(items.index, store, own.slots, second, own.exploration)
