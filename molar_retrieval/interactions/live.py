"""A stored history with what its person did since: what counts, in the order of time, without what was taken back.

It is what :mod:`molar_retrieval.interactions.events` makes of the same events, for one person and without tables. An
index says of each interaction which event of the log it is, and the log has these events until their day is sealed; of
sealed days it is not known any more what was taken back.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from molar_retrieval.events.event import KINDS
from molar_retrieval.events.live import LiveLine
from molar_retrieval.events.undoing import FILE, LOG, SEALED, InteractionEvent, taken_back, takers
from molar_retrieval.interactions.events import _DAY, _PURCHASE_CODE, _SECOND

_QUARTER = 900 * _SECOND  # at a whole one of which the day begins in every zone
_PURCHASE, _RATING = "purchase", "rating"
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


class Bought(NamedTuple):
    """That an item's row was bought in an order, and whether by the person."""

    order: str
    row: int
    own: bool


def pack_events(kinds: Sequence[int], numbers: Sequence[int], orders: Sequence[str | None]) -> bytes:
    """Which events the interactions of a history are, as an index stores it; nothing of purchases of the file alone.

    Kinds are places in ``KINDS`` (-1: another one), numbers those of the log (0: the file has it), and orders ids.
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
    return [
        InteractionEvent(
            kind=KINDS[kind] if kind >= 0 else "",
            person=_OWN,
            item=row,
            order=orders.get(place),
            micros=int(time) * _SECOND,
            event_number=number,
            source=SEALED if number else FILE,
        )
        for place, (row, time, kind, number) in enumerate(zip(rows, times, kinds, numbers, strict=True))
    ]


def continued(
    user: StoredHistory,
    sessions: Sequence[StoredHistory],
    since: Sequence[InteractionEvent],
    bought: Sequence[Bought],
    *,
    days: bool = False,
) -> list[tuple[int, int]]:
    """A history with what happened since: item rows, and the time of each in seconds since 1970, oldest first.

    Args:
        user: The history as it was stored, and what the log still has of the same person and time.
        sessions: The same of sessions that were stored by themselves and are the user by now.
        since: What came after that.
        bought: What anybody bought in orders of which something was sent back.
        days: Whether the interactions file knows days alone.
    """
    others = [_gone(one) for one in bought if not one.own]
    every = _restored(user, others, days)
    fresh = [one for session in sessions for one in _restored(session, others)]
    before = [line for one in (user, *sessions) for line in one.lines]
    fresh = sorted([*fresh, *_firsts(since, before)], key=lambda one: one.event_number)
    every = _in_time([*others, *_merged(every, _firsts(fresh, every), days)])
    if bought:  # an order of which nothing is left is there all the same: a return of it takes nothing else
        entries = [one for history in (user, *sessions) for one in history.entries]
        known = {(one.item, one.order) for one in (*entries, *before, *since) if one.kind == _PURCHASE}
        every = [*(_gone(one) for one in bought if one.own and (one.row, one.order) not in known), *every]
    gone = taken_back(every) if any(one.undoes for one in every) else ()
    return [history_entry(one) for place, one in enumerate(every) if _is_own(one) and place not in gone]


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
    merged = _merged(stored, [line for line in left if _is_own(line)], days)
    stored = merged[: len(stored)]
    every = _in_time([*others, *merged, *(line for line in left if line.undoes)])
    there = {id(one) for one in stored}
    places = {place for place, one in enumerate(every) if id(one) in there}
    took = takers(every, places) if any(one.undoes for one in every) else {}
    taken = {place for own in took.values() for place in own}
    for place, one in enumerate(every):
        if (_is_own(one) and place in taken) or (one.undoes and took.get(place, True)):
            stored.append(one)
        elif _is_own(one) and place not in places and one.order is not None:
            stored.append(one._replace(person=_GONE))  # whoever took it
    return stored


def _gone(one: Bought) -> InteractionEvent:
    return InteractionEvent(_PURCHASE, _GONE, one.row, one.order)


def _is_own(one: InteractionEvent) -> bool:
    """Whether a history may have it."""
    return one.person == _OWN and not one.undoes


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
