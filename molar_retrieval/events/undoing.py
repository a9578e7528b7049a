"""Which purchases a return takes back, and which carts a removal empties."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable
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

    A return takes back what its order has of its item, or all of it where it names no item; a removal from the cart
    does so with what its own person put there. Where the log knows nothing of that order, it takes back the latest one
    before it of the same person and item that came of the same request, else the latest one at all. It takes back one,
    whatever the quantity.
    """
    return {place for places in takers(deeds).values() for place in places}


def takers(deeds: Iterable[Deed], there: Collection[int] = ()) -> dict[int, list[int]]:
    """What each one takes back that finds something, by its place.

    ``there`` are places that are known to be left: one whose turn they would be has taken something that is not among
    the deeds, and takes nothing of them.
    """
    deeds = list(deeds)
    ordered: dict[Hashable, list[int]] = defaultdict(list)
    for place, deed in enumerate(deeds):
        if deed.kind not in TAKES_OUT and deed.order is not None:
            ordered[deed.kind, deed.order].append(place)
    gone: set[int] = set()
    found: dict[int, list[int]] = {}
    before: dict[Hashable, list[int]] = defaultdict(list)
    for place, deed in enumerate(deeds):
        if (kind := TAKES_OUT.get(deed.kind)) is None:
            before[deed.kind, deed.person, deed.item].append(place)
            continue
        of_order = [] if deed.order is None else ordered.get((kind, deed.order), [])
        of_order = [other for other in of_order if deed.item in (None, deeds[other].item)]
        if kind != "purchase":  # nobody empties somebody else's cart
            of_order = [other for other in of_order if deeds[other].person == deed.person]
        left = [other for other in before[kind, deed.person, deed.item] if other not in gone]
        same = [other for other in left if deed.request is not None and deeds[other].request == deed.request]
        if turn := of_order or (same or left)[-1:]:
            found[place] = [] if any(other in there for other in turn) else turn
            gone.update(found[place])
    return found
