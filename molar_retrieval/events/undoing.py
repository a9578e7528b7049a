"""Which purchases a return takes back, and which carts a removal empties."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable
from typing import NamedTuple

from molar_retrieval.events.kinds import TAKES_OUT

LOG, SEALED, FILE = "log", "sealed", "file"
"""Where an event is from: of what is in sealed days and in the file alone, no more is known than an index stores."""


class InteractionEvent(NamedTuple):
    """What a person did, with people, items, orders and requests by any name; ``item`` is None for all of an order."""

    kind: str
    person: int | str
    item: int | None
    order: int | str | None = None
    request: int | str | None = None
    micros: int = 0
    event_number: int = 0
    source: str = LOG

    @property
    def undoes(self) -> bool:
        """Whether it takes another one back."""
        return self.kind in TAKES_OUT


def taken_back(events: Iterable[InteractionEvent]) -> set[int]:
    """The places of those that are undone by another one; ``events`` are in the order (time, arrival).

    A return takes back what its order has of its item, or all of it where it names no item; a removal from the cart
    does so with what its own person put there. Where the log knows nothing of that order, it takes back the latest one
    before it of the same person and item that came of the same request, else the latest one at all. It takes back one,
    whatever the quantity.
    """
    return {place for places in takers(events).values() for place in places}


def takers(events: Iterable[InteractionEvent], there: Collection[int] = ()) -> dict[int, list[int]]:
    """What each one takes back that finds something, by its place.

    ``there`` are places that are known to be left: one whose turn they would be has taken something that is not among
    the events, and takes nothing of them.
    """
    events = list(events)
    ordered: dict[Hashable, list[int]] = defaultdict(list)
    for place, event in enumerate(events):
        if event.kind not in TAKES_OUT and event.order is not None:
            ordered[event.kind, event.order].append(place)
    gone: set[int] = set()
    found: dict[int, list[int]] = {}
    before: dict[Hashable, list[int]] = defaultdict(list)
    for place, event in enumerate(events):
        if (kind := TAKES_OUT.get(event.kind)) is None:
            before[event.kind, event.person, event.item].append(place)
            continue
        of_order = [] if event.order is None else ordered.get((kind, event.order), [])
        of_order = [other for other in of_order if event.item in (None, events[other].item)]
        if kind != "purchase":  # nobody empties somebody else's cart
            of_order = [other for other in of_order if events[other].person == event.person]
        left = [other for other in before[kind, event.person, event.item] if other not in gone]
        same = [other for other in left if event.request is not None and events[other].request == event.request]
        if turn := of_order or (same or left)[-1:]:
            found[place] = [] if any(other in there for other in turn) else turn
            gone.update(found[place])
    return found
