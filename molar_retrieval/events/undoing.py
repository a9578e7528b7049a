"""Which purchases a return takes back, and which carts a removal empties."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from molar_retrieval.events.kinds import TAKES_OUT


class Deed(NamedTuple):
    """What somebody did: ``person`` and ``item`` by any name, ``item`` None for all of an order."""

    kind: str
    person: Hashable
    item: Hashable
    order: Hashable = None
    request: Hashable = None


def taken_back(deeds: Iterable[Deed]) -> set[int]:
    """The places of those that are undone by another one; ``deeds`` are in the order (time, arrival).

    A return, or a removal from the cart, takes back what its order has of its item, or all of it where it names no
    item. Where the log knows nothing of that order, it takes back the latest one before it of the same person and item
    that came of the same request, else the latest one at all. It takes back one, whatever the quantity.
    """
    deeds = list(deeds)
    ordered: dict[Hashable, list[int]] = defaultdict(list)
    for place, deed in enumerate(deeds):
        if deed.kind not in TAKES_OUT and deed.order is not None:
            ordered[deed.kind, deed.order].append(place)
    gone: set[int] = set()
    before: dict[Hashable, list[int]] = defaultdict(list)
    for place, deed in enumerate(deeds):
        if (kind := TAKES_OUT.get(deed.kind)) is None:
            before[deed.kind, deed.person, deed.item].append(place)
            continue
        of_order = [] if deed.order is None else ordered.get((kind, deed.order), [])
        of_order = [other for other in of_order if deed.item in (None, deeds[other].item)]
        if of_order:
            gone.update(of_order)
            continue
        there = [other for other in before[kind, deed.person, deed.item] if other not in gone]
        same = [other for other in there if deed.request is not None and deeds[other].request == deed.request]
        gone.update((same or there)[-1:])
    return gone
