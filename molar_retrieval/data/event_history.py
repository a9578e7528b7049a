"""From events to histories, of all users or of one as it happens, by the same rules for what counts and is undone."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, NamedTuple

import msgspec

from molar_retrieval.data.event_parsing import EVENT_TYPES
from molar_retrieval.data.live_events import LiveLine
from molar_retrieval.workspace.config_files import EVENT_WEIGHTS

TAKES_OUT = {"return": "purchase", "remove_from_cart": "add_to_cart"}
"""Kinds that take another one out of the history."""
DEFAULT = EVENT_WEIGHTS
"""Weights where neither the settings nor validation says others."""


def counted(weights: Mapping[str, float]) -> dict[str, float]:
    """The kinds that count, the strongest first."""
    return {kind: float(weights[kind]) for kind in sorted(weights, key=lambda k: (-weights[k], k)) if weights[kind] > 0}


def history_event_types(weights: Mapping[str, float]) -> tuple[str, ...]:
    """The kinds whose events change a history: those that count, and those that take one of them out."""
    taken = (kind for kind, other in TAKES_OUT.items() if weights.get(other, 0) > 0)
    return (*counted(weights), *taken)


@dataclass(frozen=True)
class EventWeights:
    """Weights of the kinds that count, who chose them, and what was tried on the way.

    ``at`` is the last event, by its number, that a choice by validation has seen; None: none was asked for.
    """

    weights: Mapping[str, float]
    chosen_by: Literal["default", "settings", "validation"] = "default"
    tried: Sequence[Mapping[str, Any]] = ()
    at: int | None = None

    @classmethod
    def of(cls, asked: Mapping[str, float] | None) -> "EventWeights":
        """As the settings say, or by default."""
        return cls(counted(DEFAULT)) if asked is None else cls(counted(asked), "settings")

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> "EventWeights | None":
        """Those of prepared interactions; None where these were made elsewhere."""
        if "kinds" not in facts:
            return None
        return cls(facts["kinds"], facts["kinds_by"], facts.get("kinds_tried", ()), facts.get("kinds_at"))

    @property
    def facts(self) -> dict[str, Any]:
        """As facts of a manifest."""
        tried = {"kinds_tried": [dict(one) for one in self.tried]} if self.tried else {}
        at = {} if self.at is None else {"kinds_at": self.at}
        return {"kinds": dict(self.weights), "kinds_by": self.chosen_by, **tried, **at}


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

    @property
    def own(self) -> bool:
        """Whether the history of its person may have it."""
        return self.person == _OWN and not self.undoes


def undone(events: Iterable[InteractionEvent]) -> set[int]:
    """The places of those that are undone by another one; ``events`` are in the order (time, arrival).

    A return takes back what its order has of its item, or all of it where it names no item; a removal from the cart
    does so with what its own person put there. Where the log knows nothing of that order, it takes back the latest one
    before it of the same person and item that came of the same request, else the latest one at all. It takes back one,
    whatever the quantity.
    """
    return {place for places in undo_targets(events).values() for place in places}


def undo_targets(events: Iterable[InteractionEvent], there: Collection[int] = ()) -> dict[int, list[int]]:
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


_DAY, _SECOND = 86_400_000_000, 1_000_000  # microseconds
_QUARTER = 900 * _SECOND  # at a whole one of which the day begins in every zone
_PURCHASE, _RATING = "purchase", "rating"
_PURCHASE_CODE = EVENT_TYPES.index(_PURCHASE)
_OWN, _OTHER, _GONE = "own", "other", "gone"


def logged_events(lines: Iterable[LiveLine], rows: Mapping[str, int], *, own: bool = True) -> list[InteractionEvent]:
    """Lines of the log with items that have a row, and those of whole orders; of the person, or of others."""
    person = _OWN if own else _OTHER
    found = ((line, None if line.item_id is None else rows.get(line.item_id, -1)) for line in lines)
    return [
        InteractionEvent(line.kind, person, row, line.order, line.request, line.micros, line.seq)
        for line, row in found
        if row != -1
    ]


def history_entry(event: InteractionEvent) -> tuple[int, int]:
    """An event as a history has it: the item's row, and seconds since 1970."""
    return event.item or 0, event.micros // _SECOND


class StoredHistory(NamedTuple):
    """What is stored of somebody, oldest first; and the lines of the log until then, by arrival."""

    entries: Sequence[InteractionEvent]
    lines: Sequence[InteractionEvent]


def order_line(order: str, row: int, *, own: bool) -> InteractionEvent:
    """That an item's row was bought in an order, by the person or by another one."""
    return InteractionEvent(_PURCHASE, _OWN if own else _OTHER, row, order)


def pack_events(kinds: Sequence[int], numbers: Sequence[int], orders: Sequence[str | None]) -> bytes:
    """Which events the interactions of a history are, as an index stores it; nothing of purchases of the file alone.

    Kinds are places in ``EVENT_TYPES`` (-1: another one), numbers of the log (0: the file has it), orders are ids.
    """
    if not any(numbers) and all(kind == _PURCHASE_CODE for kind in kinds):
        return b""
    places: dict[str, list[int]] = {}
    for place, order in enumerate(orders):
        if order is not None:
            places.setdefault(order, []).append(place)
    return msgspec.msgpack.encode((kinds, numbers, places))


def stored_events(rows: Iterable[int], times: Iterable[int], events: bytes) -> list[InteractionEvent]:
    """The events of a stored history: item rows, seconds since 1970, and what :func:`pack_events` made."""
    rows = list(map(int, rows))
    kinds, numbers, places = [_PURCHASE_CODE] * len(rows), [0] * len(rows), dict[str, list[int]]()
    if events:
        kinds, numbers, places = msgspec.msgpack.decode(events)
    orders = {place: order for order, own in places.items() for place in own}
    names = [EVENT_TYPES[kind] if kind >= 0 else "" for kind in kinds]
    micros = [int(time) * _SECOND for time in times]
    return [
        InteractionEvent(name, _OWN, row, orders.get(place), None, moment, number, SEALED if number else FILE)
        for place, (name, row, moment, number) in enumerate(zip(names, rows, micros, numbers, strict=True))
    ]


def updated_history(
    user: StoredHistory,
    sessions: Sequence[StoredHistory],
    since: Sequence[InteractionEvent],
    bought: Sequence[InteractionEvent],
    *,
    days: bool = False,
) -> list[tuple[int, int]]:
    """A history with what happened since: item rows, and the time of each in seconds since 1970, oldest first.

    Args:
        user: The history as it was stored, and what the log still has of the same person and time.
        sessions: The same of sessions that were stored by themselves and are the user by now.
        since: What came after that.
        bought: What anybody bought in orders of which something was sent back, by :func:`order_line`.
        days: Whether the interactions file knows days alone.
    """
    others = [one._replace(person=_GONE) for one in bought if one.person == _OTHER]
    every = _restored(user, others, days)
    fresh = [one for session in sessions for one in _restored(session, others)]
    before = [line for one in (user, *sessions) for line in one.lines]
    fresh = sorted([*fresh, *_firsts(since, before)], key=lambda one: one.event_number)
    every = _in_time([*others, *_merged(every, _firsts(fresh, every), days)])
    if bought:  # an order of which nothing is left is there all the same: a return of it takes nothing else
        entries = [one for history in (user, *sessions) for one in history.entries]
        known = {(one.item, one.order) for one in (*entries, *before, *since) if one.kind == _PURCHASE}
        own = [one for one in bought if one.person == _OWN and (one.item, one.order) not in known]
        every = [*(one._replace(person=_GONE) for one in own), *every]
    gone = undone(every) if any(one.undoes for one in every) else ()
    return [history_entry(one) for place, one in enumerate(every) if one.own and place not in gone]


def _restored(known: StoredHistory, others: Sequence[InteractionEvent], days: bool = False) -> list[InteractionEvent]:
    """What is stored, what was taken back of it that the log still has, and what takes back.

    What takes back is left out where it had to take something that is neither in the log nor stored any more; where it
    found nothing yet, it is there.
    """
    lines = {line.event_number: line for line in known.lines}
    stored = [lines.get(one.event_number, one) for one in known.entries]
    moments = accumulate(((one.micros, one.event_number) for one in stored), max)  # the order is known, whatever else
    stored = [
        one._replace(micros=micros, event_number=number) for one, (micros, number) in zip(stored, moments, strict=True)
    ]
    numbers = {one.event_number for one in known.entries}
    left = _firsts((line for line in known.lines if line.event_number not in numbers), stored)
    merged = _merged(stored, [line for line in left if line.own], days)
    stored = merged[: len(stored)]
    every = _in_time([*others, *merged, *(line for line in left if line.undoes)])
    there = {id(one) for one in stored}
    places = {place for place, one in enumerate(every) if id(one) in there}
    took = undo_targets(every, places) if any(one.undoes for one in every) else {}
    taken = {place for own in took.values() for place in own}
    for place, one in enumerate(every):
        if (one.own and place in taken) or (one.undoes and took.get(place, True)):
            stored.append(one)
        elif one.own and place not in places and one.order is not None:
            stored.append(one._replace(person=_GONE))  # whoever took it
    return stored


def _in_time(events: Iterable[InteractionEvent]) -> list[InteractionEvent]:
    return sorted(events, key=lambda one: (one.micros, one.event_number))


def _firsts(lines: Iterable[InteractionEvent], others: Iterable[InteractionEvent] = ()) -> list[InteractionEvent]:
    """Each once, without what others say already."""
    seen, found = {_same(one) for one in others if one.source == LOG}, []
    for one in lines:
        if _same(one) not in seen:
            seen.add(_same(one))
            found.append(one)
    return found


def _same(one: InteractionEvent) -> tuple[object, ...]:
    return one.kind, one.item, one.micros, one.order if one.undoes else None, one.person


def _merged(every: Sequence[InteractionEvent], fresh: Iterable[InteractionEvent], days: bool) -> list[InteractionEvent]:
    """All of them; what is stored alone is there once, and what only the file has is told its order."""
    every = list(every)
    at: dict[int | None, list[int]] = defaultdict(list)
    for place, one in enumerate(every):
        if one.source != LOG:
            at[one.item].append(place)
    for one in fresh:
        same = [place for place in at[one.item] if _may_be(every[place], one, days)]
        if not same:
            every.append(one)
        for place in same[:1]:
            if every[place].source == FILE:
                every[place] = every[place]._replace(order=one.order, request=one.request)
    return every


def _may_be(stored: InteractionEvent, one: InteractionEvent, days: bool) -> bool:
    """Whether what is stored may be an event, by its kind, and its time as exactly as that is known."""
    of_file = stored.source == FILE
    kind = _PURCHASE if of_file and one.kind == _RATING else one.kind
    start = stored.micros // _SECOND * _SECOND
    long = _DAY if of_file and days and start % _QUARTER == 0 else _SECOND
    return stored.kind == kind and 0 <= one.micros - start < long
