"""What ranks the items of a generation as they are now: a ranker for every aim that lists are asked for."""

from typing import TYPE_CHECKING

from molar_indexes.generations import Generation
from molar_indexes.live_items import LiveItems
from molar_retrieval.ranking.aims import NEXT, Aim, served
from molar_retrieval.ranking.query import Query

if TYPE_CHECKING:
    from molar_retrieval.ranking.ranker import Ranker


class Rankers:
    """The rankers of one generation, those of the last state of its items; threads may share them."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._known: tuple[LiveItems, dict[Aim, Ranker]] | None = None

    def aim(self, query: Query) -> Aim:
        """The aim whose weights answer a query; RequestError if none were chosen for the horizon that it names."""
        own = self._generation
        return served(own.aims, Aim(query.horizon or own.horizon, query.seen))

    def of(self, items: LiveItems, aim: Aim) -> "Ranker":
        """What ranks the items for an aim of :meth:`aim`."""
        known = self._known
        if known is None or known[0] is not items:
            known = self._known = items, {NEXT: self._default(items)}
        if aim not in known[1]:
            known[1][aim] = known[1][NEXT].for_aim(aim, self._generation.aims[aim.name])
        return known[1][aim]

    def _default(self, items: LiveItems) -> "Ranker":
        from molar_retrieval.ranking.ranker import Ranker

        own, second = self._generation, self._generation.table.reranker
        store = items.index.store(own.table.items, {} if second is None else second.numbers)
        return Ranker(items.index, store, own.places, second, own.exploration)
