"""A stored history with what its person did since: what counts, in the order of time, without what was taken back.

It is what :mod:`molar_retrieval.interactions.events` makes of the same events, for one person and without tables. What
the log no longer holds by itself, as its day is sealed, passes for a purchase, as what only the file has.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from molar_retrieval.events.kinds import TAKES_OUT
from molar_retrieval.events.live import LiveLine
from molar_retrieval.events.undoing import Deed, taken_back

_SECOND, _DAY = 1_000_000, 86_400_000_000  # microseconds
_OWN, _OTHER = "own", "other"


class Happening(NamedTuple):
    """What somebody did, by the item's row; None stands for all of an order."""

    kind: str
    row: int | None
    micros: int
    order: str | None = None
    request: str | None = None
    seq: int = 0
    person: str = _OWN

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


def sealed(entries: Iterable[tuple[int, int]], lines: Iterable[Happening]) -> list[Happening]:
    """What a stored history has and the log does not any more, by item rows and times in seconds: as purchases."""
    known = Counter((one.row, one.micros // _SECOND) for one in lines if one.kind not in TAKES_OUT)
    found = []
    for row, time in entries:
        known[row, time] -= 1
        if known[row, time] < 0:
            found.append(Happening("purchase", row, time * _SECOND))
    return found


def continued(
    history: Sequence[int],
    times: Sequence[int],
    before: Sequence[Happening],
    since: Sequence[Happening],
    bought: Mapping[str, Sequence[int]],
    *,
    days: bool = False,
) -> tuple[list[int], list[int]]:
    """A history with what happened since: item rows, and the time of each in seconds since 1970.

    Args:
        history: Item rows, oldest first.
        times: When each of them was, in seconds since 1970.
        before: What the log still has of the same person and time as the history.
        since: What came after the history was stored, by arrival.
        bought: Rows that the person bought in orders, by order, as far as they are in the history.
        days: Whether the interactions file knows days alone.
    """
    past, alone = _named(history, times, before)
    since = _once(past, alone, before, since, days)
    if any(one.kind in TAKES_OUT for one in since):
        _order(past, alone, since, bought)
    came = {(one.order, row) for one in since if one.order is not None for row in (one.row, None)}
    late = [one for one in before if one.kind in TAKES_OUT and (one.order, one.row) in came]  # returned before it came
    every = sorted([*past, *late, *since], key=lambda one: (one.micros, one.seq))
    gone = taken_back(Deed(one.kind, one.person, one.row, one.order, one.request) for one in every)
    kept = [one for place, one in enumerate(every) if place not in gone and one.kind not in TAKES_OUT]
    return [one.row for one in kept if one.row is not None], [one.micros // _SECOND for one in kept]


def _named(
    history: Sequence[int], times: Sequence[int], before: Sequence[Happening]
) -> tuple[list[Happening], list[int]]:
    """The history as it happened, as far as the log knows, and the places of which it knows nothing."""
    known: dict[tuple[int | None, int], list[Happening]] = defaultdict(list)
    for one in sorted(before, key=lambda one: (-one.micros, -one.seq)):
        if one.kind not in TAKES_OUT:
            known[one.row, one.micros // _SECOND].append(one)
    past: list[Happening] = []
    alone, micros = [], 0
    for place, (row, time) in enumerate(zip(history, times, strict=True)):
        if same := known.get((row, time)):
            one = same.pop()
        else:
            one = Happening("purchase", row, time * _SECOND)
            alone.append(place)
        micros = max(micros, one.micros)  # the order is known, whatever else
        past.append(one._replace(micros=micros, seq=place - len(history)))
    return past, alone


def _once(
    past: list[Happening], alone: Sequence[int], before: Sequence[Happening], since: Sequence[Happening], days: bool
) -> list[Happening]:
    """What came since, each once; a purchase that is in the history already tells it its order."""
    seen = {_same(one) for one in before}
    at: dict[int | None, list[int]] = defaultdict(list)
    for place in alone:
        at[past[place].row].append(place)
    unit = _DAY if days else _SECOND
    fresh = []
    for one in since:
        if _same(one) in seen:
            continue
        seen.add(_same(one))
        bought = one.kind in ("purchase", "rating")
        same = [place for place in at[one.row] if bought and 0 <= one.micros - past[place].micros < unit]
        if not same:
            fresh.append(one)
        for place in same[:1]:
            past[place] = past[place]._replace(order=one.order, request=one.request)
    return fresh


def _same(one: Happening) -> tuple[object, ...]:
    return one.kind, one.row, one.micros, one.order if one.kind in TAKES_OUT else None, one.person


def _order(
    past: list[Happening], alone: Sequence[int], since: Sequence[Happening], bought: Mapping[str, Sequence[int]]
) -> None:
    """Tell purchases of which nothing is known in which order they were: of each item the latest."""
    free = {past[place].row: place for place in alone if past[place].order is None}
    known = {(one.row, one.order) for one in (*past, *since) if one.kind not in TAKES_OUT}
    for order, rows in bought.items():
        for row in rows:
            if row in free and (row, order) not in known:
                place = free[row]
                past[place] = past[place]._replace(order=order)
