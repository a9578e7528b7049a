"""A stored history with what its person did since: what counts, in the order of time, without what was taken back.

It is what :mod:`molar_retrieval.interactions.events` makes of the same events, for one person and without tables. What
the log no longer holds by itself, as its day is sealed, passes for a purchase, as what only the file has; of both, what
was taken back before is not known.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, Self

from molar_retrieval.events.kinds import TAKES_OUT
from molar_retrieval.events.live import LiveLine
from molar_retrieval.events.undoing import Deed, taken_back, takers

_SECOND, _DAY = 1_000_000, 86_400_000_000  # microseconds
_QUARTER = 900 * _SECOND  # at a whole one of which the day begins in every zone
_OWN, _OTHER, _GONE = "own", "other", "gone"


class Happening(NamedTuple):
    """What somebody did, by the item's row; None stands for all of an order."""

    kind: str
    row: int | None
    micros: int
    order: str | None = None
    request: str | None = None
    seq: int = 0
    person: str = _OWN
    alone: bool = False  # stored, and the log does not have it by itself

    @classmethod
    def of(cls, lines: Iterable[LiveLine], rows: Mapping[str, int], *, own: bool = True) -> list[Self]:
        """Lines of the log with items that have a row, and those of whole orders."""
        known = ((line, None if line.item_id is None else rows.get(line.item_id, -1)) for line in lines)
        person = _OWN if own else _OTHER
        return [
            cls(line.kind, row, line.micros, line.order, line.request, line.seq, person)
            for line, row in known
            if row != -1
        ]

    @property
    def is_own(self) -> bool:
        """Whether a history may have it."""
        return self.person == _OWN and not self.takes

    @property
    def takes(self) -> bool:
        """Whether it takes another one back."""
        return self.kind in TAKES_OUT

    @property
    def entry(self) -> tuple[int | None, int]:
        """As a history has it: the item's row, and seconds since 1970."""
        return self.row, self.micros // _SECOND

    @property
    def deed(self) -> Deed:
        """As it is asked what takes back what."""
        return Deed(self.kind, self.person, self.row, self.order, self.request)


class StoredHistory(NamedTuple):
    """What is stored of somebody, item rows and seconds since 1970, oldest first; and the lines of the log until then.

    Lines are by arrival.
    """

    entries: Sequence[tuple[int, int]]
    lines: Sequence[Happening]


class Bought(NamedTuple):
    """That an item's row was bought in an order, on which day since 1970 (UTC), and whether by the person."""

    order: str
    row: int
    day: int
    own: bool


def continued(
    user: StoredHistory,
    sessions: Sequence[StoredHistory],
    since: Sequence[Happening],
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
    every = _explained(user, others, days)
    fresh = [one._replace(alone=False) for session in sessions for one in _explained(session, others)]
    before = [line for one in (user, *sessions) for line in one.lines]
    fresh = sorted([*fresh, *_firsts(since, before)], key=lambda one: one.seq)
    every = _in_time(_told(every, _firsts(fresh, every), days))
    if bought:
        known = {(line.row, line.order) for line in (*before, *since) if line.kind == "purchase"}
        unknown = [one for one in bought if one.own and (one.row, one.order) not in known]
        every = _in_time([*others, *_ordered(every, unknown, days)])
    gone = taken_back(one.deed for one in every) if any(one.takes for one in every) else ()
    return [(one.row or 0, one.micros // _SECOND) for n, one in enumerate(every) if one.is_own and n not in gone]


def _explained(known: StoredHistory, others: Sequence[Happening], days: bool = False) -> list[Happening]:
    """Stored entries, by their lines where there are some, what was taken back of the log, and what takes back.

    What takes back is left out where it had to take something that is neither in the log nor stored any more; where it
    found nothing yet, it is there.
    """
    lines, count = _firsts(known.lines), Counter[tuple[int | None, int]](known.entries)
    had = Counter(line.entry for line in lines if line.is_own)
    alone = [
        Happening("purchase", row, time * _SECOND, seq=-1, alone=True)
        for (row, time), times in count.items()
        for _ in range(times - had[row, time])
    ]
    told = _told(alone, [line for line in lines if line.is_own and line.entry not in count], days)
    every = _in_time([*others, *told, *(line for line in lines if line.takes or line.entry in count)])
    deeds = [one.deed for one in every] if any(line.takes for line in lines) else []
    gone = taken_back(deeds)
    places = defaultdict[tuple[int | None, int], list[int]](list)
    for place in sorted(range(len(every)), key=lambda place: place in gone):
        if every[place].is_own:
            places[every[place].entry].append(place)
    stored = {entry: sorted(places[entry][:times]) for entry, times in count.items()}
    there = {place for own in stored.values() for place in own}
    took = takers(deeds, there)
    taken = {place for own in took.values() for place in own}
    found = [every[stored[entry].pop(0)] for entry in known.entries]
    moments = accumulate(((one.micros, one.seq) for one in found), max)  # the order is known, whatever else
    found = [one._replace(micros=micros, seq=seq) for one, (micros, seq) in zip(found, moments, strict=True)]
    for place, one in enumerate(every):
        if (one.is_own and place in taken) or (one.takes and took.get(place, True)):
            found.append(one)
        elif one.is_own and place not in there and one.order is not None:
            found.append(one._replace(person=_GONE))  # whoever took it
    return found


def _gone(one: Bought) -> Happening:
    return Happening("purchase", one.row, 0, one.order, person=_GONE)


def _in_time(happenings: Iterable[Happening]) -> list[Happening]:
    return sorted(happenings, key=lambda one: (one.micros, one.seq))


def _firsts(lines: Iterable[Happening], others: Iterable[Happening] = ()) -> list[Happening]:
    """Each once, without what others say already."""
    seen, found = {_same(one) for one in others if not one.alone}, []
    for one in lines:
        if _same(one) not in seen:
            seen.add(_same(one))
            found.append(one)
    return found


def _same(one: Happening) -> tuple[object, ...]:
    return one.kind, one.row, one.micros, one.order if one.takes else None, one.person


def _told(every: Sequence[Happening], fresh: Iterable[Happening], days: bool) -> list[Happening]:
    """All of them; a purchase that is stored alone is there once, and is told its order."""
    every = list(every)
    at: dict[int | None, list[int]] = defaultdict(list)
    for place, one in enumerate(every):
        if one.alone:
            at[one.row].append(place)
    for one in fresh:
        bought = one.kind in ("purchase", "rating")
        same = [place for place in at[one.row] if bought and _may_say(every[place], one.micros, days)]
        if not same:
            every.append(one)
        for place in same[:1]:
            every[place] = every[place]._replace(order=one.order, request=one.request)
    return every


def _may_say(stored: Happening, micros: int, days: bool) -> bool:
    """Whether a file that knows days alone, or else seconds, says of a moment what is stored."""
    start = stored.micros // _SECOND * _SECOND
    return 0 <= micros - start < (_DAY if days and start % _QUARTER == 0 else _SECOND)


def _ordered(every: Sequence[Happening], unknown: Iterable[Bought], days: bool) -> list[Happening]:
    """Tell purchases that are stored alone in which order they were: the latest one of the item and day.

    An order of which nothing is left is there all the same, so that a return of it takes nothing else.
    """
    every = list(every)
    for bought in unknown:
        alone = (place for place, one in enumerate(every) if one.alone and one.row == bought.row and one.order is None)
        own = [place for place in alone if _may_be_of(every[place], bought.day, days)]
        for place in own[-1:]:
            every[place] = every[place]._replace(order=bought.order)
        if not own:
            every.append(_gone(bought))
    return every


def _may_be_of(stored: Happening, day: int, days: bool) -> bool:
    """Whether what is stored may be of a day (UTC); days of a file begin in the zone of the shop."""
    late = days and stored.micros % _QUARTER == 0
    return stored.micros // _DAY in ((day - 1, day) if late else (day,))
