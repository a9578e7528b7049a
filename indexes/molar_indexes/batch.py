"""Many users at once: the ranking of :mod:`molar_retrieval.ranking` over one matrix product for a batch of them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from molar_retrieval.ranking.ranker import Ranker
from molar_retrieval.ranking.wishes import Asker, Listing, Wishes

_MOST_SCANNED = 1 << 24
"""Numbers in the items' dense vectors up to which all are multiplied: for a batch that costs less than its searches."""
_MOST_PRODUCTS = 1 << 24
"""Products that are held at a time."""


def rank_all(ranker: Ranker, askers: Sequence[Asker], k: int, wishes: Sequence[Wishes]) -> Iterator[Listing]:
    """The lists of several users, the same as :meth:`Ranker.rank` gives each of them, as far as an index is exact.

    The second stage is asked at once for all lists that nothing else shapes.

    Args:
        ranker: Of one generation.
        askers: The users.
        k: How many items each.
        wishes: Of each.
    """
    size = max(1, _MOST_PRODUCTS // max(1, len(ranker.table)))
    for begin in range(0, len(askers), size):
        some, own = _multiplied(ranker, askers[begin : begin + size]), wishes[begin : begin + size]
        plain = [number for number, wish in enumerate(own) if not wish.shape]
        found = [ranker.candidates(some[number], k, own[number]) for number in plain]
        listed = ranker.listed([some[n] for n in plain], found, k, [own[n] for n in plain])
        lists = dict(zip(plain, listed, strict=True))
        for number, (asker, wish) in enumerate(zip(some, own, strict=True)):
            yield lists[number] if number in lists else ranker.rank(asker, k, wish)


def _multiplied(ranker: Ranker, askers: Sequence[Asker]) -> Sequence[Asker]:
    """The same, their products with all items known, unless there are too many."""
    items = ranker.table.dense
    if items.size > _MOST_SCANNED:
        return askers
    products = np.array([asker.vector for asker in askers], np.float32).reshape(-1, items.shape[1]) @ items.T
    return [replace(asker, products=own) for asker, own in zip(askers, products, strict=True)]
