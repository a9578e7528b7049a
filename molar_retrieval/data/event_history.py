"""From events to histories, of all users or of one as it happens, by the same rules for what counts and is undone."""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import accumulate
from typing import Any, Literal, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data.event_log_reader import EventLogSnapshot, LiveLine, suppressed_lines
from molar_retrieval.data.event_parsing import EVENT_TYPES, event_type
from molar_retrieval.data.interaction_reader import Codes
from molar_retrieval.data.interactions import RawInteractions, first_rows, ordered
from molar_retrieval.data.rows import Mask
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.pseudonyms import StoredName, person_keys
from molar_retrieval.privacy.suppression import NOBODY, SuppressionList
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

    def equals(self, other: "EventWeights") -> bool:
        """Whether the same counts as much, by the same choice."""
        return (dict(self.weights), self.chosen_by) == (dict(other.weights), other.chosen_by)


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


Ints = npt.NDArray[np.int64]
_COLUMNS = ("event", "user_id", "session_id", "item_id", "timestamp", "transaction_id", "request_id", "seq")
_DAY, _SECOND = 86_400_000_000, 1_000_000  # microseconds
_MISSING, _UNKNOWN = -1, -2
_BLOCK = 1 << 20  # times that are looked at at a time
_PURCHASE_CODE, _RATING_CODE = EVENT_TYPES.index("purchase"), EVENT_TYPES.index("rating")


@dataclass(frozen=True)
class InteractionEvents:
    """Interactions, and what takes some of them back, as arrays of one length; -1 stands for what is missing.

    ``user``, ``order`` and ``request`` are numbers of names, ``kind`` is a place in ``EVENT_TYPES``, below -1 a kind
    that only the file knows, and ``seq`` is negative of what the file has, in its order.
    """

    user: Ints
    item: Ints
    micros: Ints
    kind: Ints
    order: Ints
    request: Ints
    seq: Ints

    def __len__(self) -> int:
        return len(self.user)

    @property
    def of_file(self) -> Mask:
        """Which ones the file has."""
        return self.seq < 0

    @property
    def undoes(self) -> Mask:
        """Which ones take another one back."""
        return np.isin(self.kind, [EVENT_TYPES.index(kind) for kind in TAKES_OUT])

    def take(self, rows: Any) -> Self:
        """Some rows, by index or mask, in the order given."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def joined(cls, parts: Sequence["InteractionEvents"]) -> "InteractionEvents":
        """One after the other."""
        names = [f.name for f in fields(cls)]
        nothing = np.zeros(0, np.int64)
        return InteractionEvents(
            **{name: np.concatenate([nothing, *(getattr(p, name) for p in parts)]) for name in names}
        )

    @classmethod
    def of_raw(cls, log: RawInteractions, kinds: Sequence[str], rows: Mask | None = None) -> "InteractionEvents":
        """An ordered log of the file, or the rows of a mask; ``kinds`` are the names of its events' codes."""
        seq = np.arange(-len(log), 0)
        if rows is not None:
            log, seq = log.take(rows), seq[rows]
        missing = np.full(len(log), _MISSING)
        micros = np.zeros(len(log), np.int64) if log.micros is None else log.micros
        kind = kinds_of(log, kinds)
        return cls(log.user.astype(np.int64), log.item.astype(np.int64), micros, kind, missing, missing, seq)


@dataclass
class EventCounts:
    """What became of the events that matter."""

    counted: int = 0
    of_unknown_items: int = 0
    repeated: int = 0
    in_file: int = 0
    undone: int = 0

    def in_words(self) -> str:
        """The middle of a sentence."""
        others = {name.replace("_", " "): n for name, n in asdict(self).items() if n and name != "counted"}
        return ", ".join([f"{self.counted:,} events", *(f"{n:,} {name}" for name, n in others.items())])


@dataclass(frozen=True)
class Joined:
    """What happened by file and events, once and without what was taken back, and what became of the events.

    Of the file, which may be large, only what people did of whom there are events is in ``happened``; the other rows
    are those of the mask ``alone``, shape (rows of the file,). ``people`` are keys by number, those of the file first,
    and ``orders`` ids by number.
    """

    happened: InteractionEvents
    file: RawInteractions | None
    file_kinds: Sequence[str]
    alone: Mask
    people: list[str]
    orders: list[str]
    of_file: int
    counts: EventCounts

    @property
    def whole(self) -> InteractionEvents:
        """All that happened: the rows of the file in their order, then the events as they came."""
        if self.file is None:
            return self.happened
        both = InteractionEvents.joined(
            [InteractionEvents.of_raw(self.file, self.file_kinds, self.alone), self.happened]
        )
        return both.take(np.argsort(both.seq))

    def kinds(self, weights: Mapping[str, float]) -> list[str]:
        """The kinds of a weighting that occur; the file's interactions are purchases unless it says otherwise."""
        there = set(np.unique(self.happened.kind).tolist())
        if self.file is not None:
            there |= set(np.unique(kinds_of(self.file.take(self.alone), self.file_kinds)).tolist())
        return [kind for kind in weights if EVENT_TYPES.index(kind) in there]

    def log(self, weights: Mapping[str, float]) -> tuple[RawInteractions, pa.Array]:
        """The ordered log of the kinds that have a weight, and its users' keys by row; ``event`` is the kind."""
        own = np.array([weights.get(kind, 0.0) for kind in EVENT_TYPES])
        both = self.happened
        both = both.take(both.of_file | (own[both.kind] > 0))
        of_file = both.of_file
        self.counts.counted = int((~of_file).sum())
        strength = np.where(of_file, own.max(), own[both.kind])
        strength /= (own.max() if self.alone.any() else strength.max(initial=0.0)) or 1.0
        position, weight = np.full(len(both), np.nan), strength.copy()
        nobody = np.zeros(0, np.int32)
        others = RawInteractions(nobody, nobody, None, None, None, None)
        number, order = np.maximum(both.seq, 0), both.order.astype(np.int32)
        if self.file is not None:
            rows, others = both.seq[of_file] + len(self.file), self.file.take(self.alone)
            position[of_file] = np.nan if self.file.position is None else self.file.position[rows]
            weight[of_file] *= 1.0 if self.file.weight is None else self.file.weight[rows]
        who = self._who(both, others.user)
        place = np.empty(len(self.people), np.int32)
        place[who] = np.arange(len(who))
        micros = np.zeros(len(others), np.int64) if others.micros is None else others.micros
        raw = RawInteractions(
            user=place[np.concatenate([others.user, both.user.astype(np.int32)])],
            item=np.concatenate([others.item, both.item.astype(np.int32)]),
            micros=np.concatenate([micros, both.micros]),
            position=None if others.position is None else np.concatenate([others.position, position]),
            weight=_unless_one(others.weight, weight, len(others)),
            event=np.concatenate([kinds_of(others, self.file_kinds), both.kind], dtype=np.int32, casting="same_kind"),
            strength=_unless_one(None, strength, len(others)),
            number=np.concatenate([np.zeros(len(others), np.int64), number]),
            order=np.concatenate([np.full(len(others), _MISSING, np.int32), order]),
        )
        del others, micros
        return ordered(raw), pa.array([self.people[number] for number in who.tolist()], pa.large_string())

    def _who(self, both: InteractionEvents, others: npt.NDArray[np.int32]) -> Ints:
        """Numbers of the users: those of the file keep their order, others follow as they came."""
        numbers, first = np.unique(both.user[np.argsort(both.seq, kind="stable")], return_index=True)
        came = numbers >= self.of_file
        of_file = np.union1d(numbers[~came], np.flatnonzero(_there(others, self.of_file)))
        return np.concatenate([of_file, numbers[came][np.argsort(first[came])]])


def _unless_one(
    others: npt.NDArray[np.float32] | None, own: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.float32] | None:
    """Weights of the file's other rows (so many; None: all 1), then those of some more; None where all are 1."""
    if (others is None or (others == 1).all()) and (own == 1).all():
        return None
    return np.concatenate([np.ones(count, np.float32) if others is None else others, own.astype(np.float32)])


def kinds_of(log: RawInteractions, kinds: Sequence[str]) -> Ints:
    """What each row of a file is, as in :class:`InteractionEvents`; ``kinds`` are the names of its events' codes."""
    if log.event is None:
        return np.full(len(log), _PURCHASE_CODE)
    names = [event_type(name) for name in kinds]
    places = [_UNKNOWN - code if name is None else EVENT_TYPES.index(name) for code, name in enumerate(names)]
    return np.array(places, np.int64)[log.event]


def with_events(
    file: RawInteractions | None,
    kinds: Sequence[str],
    keys: Sequence[str],
    items: IdMap,
    state: EventLogSnapshot,
    weights: Mapping[str, float],
    zone: str | None = None,
    suppressed: SuppressionList = NOBODY,
) -> Joined | None:
    """What a file and the events beside it say; None where there is no event that matters.

    Args:
        file: The ordered log of the file without repetitions, or None; ``kinds`` names its events' codes.
        kinds: See ``file``.
        keys: The users' keys by row.
        items: The catalogue's ids.
        state: The event log.
        weights: Kinds of events that are read, by what each counts.
        zone: Where the days of a file begin that has no times of day, by default UTC.
        suppressed: People of whom nothing is read up to a moment each, as long as the log has anything of them.
    """
    people, orders, requests = Codes(keys), Codes(), Codes()
    tables = state.tables(_COLUMNS, history_event_types(weights))
    if suppressed:
        tables = (table.filter(pa.array(~suppressed_lines(table, suppressed))) for table in tables)
    identified = state.identified(suppressed)
    events = InteractionEvents.joined(
        [_numbered(table, items, people, orders, requests, identified) for table in tables]
    )
    if not len(events):
        return None
    counts = EventCounts()
    events = events.take(np.argsort(events.seq))
    known = events.item != _UNKNOWN
    counts.of_unknown_items = int((~known).sum())
    events = events.take(known)
    first = first_rows(events.user, events.item, events.micros, events.kind, events.order * events.undoes)
    counts.repeated = int((first != np.arange(len(events))).sum())
    events = events.take(first == np.arange(len(events)))
    both, alone = events, np.zeros(0, bool)
    if file is not None:
        alone = _untouched(file.user, events.user, len(people.rows))
        both = InteractionEvents.joined([InteractionEvents.of_raw(file, kinds, ~alone), events])
        if file.micros is not None:
            both = _once(both, _rounding(file.micros, zone), counts)
    both = _without_undone(both, counts)
    return Joined(both, file, kinds, alone, list(people.rows), list(orders.rows), len(keys), counts)


def _untouched(user: npt.NDArray[np.int32], of_events: Ints, people: int) -> Mask:
    """Which rows of a file are of people of whom there is no event: nothing of theirs is repeated or taken back."""
    there = _there(of_events, people)
    return np.concatenate([np.zeros(0, bool), *(~there[part] for part in _parts(user))])


def _there(numbers: npt.NDArray[np.integer], count: int) -> Mask:
    """Which of the numbers below ``count`` come, shape (count,)."""
    there = np.zeros(count, bool)
    for part in _parts(numbers):
        there[part] = True
    return there


def _numbered(
    table: pa.Table,
    items: IdMap,
    people: Codes,
    orders: Codes,
    requests: Codes,
    identified: Mapping[StoredName, StoredName],
) -> InteractionEvents:
    known = items.rows(table["item_id"]).astype(np.int64)
    known[(known < 0) & np.asarray(pc.is_valid(table["item_id"]))] = _UNKNOWN
    return InteractionEvents(
        user=_codes(people, person_keys(table["user_id"], table["session_id"], identified)),
        item=known,
        micros=table["timestamp"].cast(pa.int64()).to_numpy(),
        kind=np.asarray(pc.index_in(table["event"], pa.array(EVENT_TYPES)), np.int64),
        order=_codes(orders, table["transaction_id"]),
        request=_codes(requests, table["request_id"]),
        seq=table["seq"].to_numpy(),
    )


def _codes(codes: Codes, names: pa.ChunkedArray) -> Ints:
    there = np.asarray(pc.is_valid(names))
    found = np.full(len(names), _MISSING)
    found[there] = codes.encode(names.drop_null().combine_chunks())
    return found


def _once(both: InteractionEvents, rounded: Callable[[Ints], Ints], counts: EventCounts) -> InteractionEvents:
    """Without events that the file has: same user, item, kind and time, as exactly as the file says times."""
    kind = np.where(both.kind == _RATING_CODE, _PURCHASE_CODE, both.kind)
    first = first_rows(both.user, both.item, rounded(both.micros), kind)
    again = np.flatnonzero(~both.of_file & both.of_file[first])
    counts.in_file = len(again)
    order, request = both.order.copy(), both.request.copy()
    order[first[again]], request[first[again]] = order[again], request[again]
    return replace(both, order=order, request=request).take(np.delete(np.arange(len(both)), again))


def are_days(micros: Ints, zone: str | None) -> bool:
    """Whether a file writes days: all of its times are midnights of a zone, by default UTC."""
    return all((_midnights(part, zone) == part).all() for part in _parts(micros))


def _midnights(micros: Ints, zone: str | None) -> Ints:
    moments = pa.array(micros, pa.timestamp("us", zone or "UTC"))
    return np.asarray(pc.floor_temporal(moments, unit="day").cast(pa.int64()))


def _rounding(micros: Ints, zone: str | None) -> Callable[[Ints], Ints]:
    """How exactly a file says its times, as what makes others as exact."""
    if are_days(micros, zone):
        return lambda others: _midnights(others, zone)
    if not any((part % _SECOND).any() for part in _parts(micros)):
        return lambda others: others // _SECOND
    return lambda others: others


def _parts(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    return (values[begin : begin + _BLOCK] for begin in range(0, len(values), _BLOCK))


def _without_undone(both: InteractionEvents, counts: EventCounts) -> InteractionEvents:
    takers = both.undoes
    if not takers.any():
        return both
    pair = both.user * (both.item.max() + 2) + both.item + 1
    concerned = np.isin(pair, pair[takers]) | (np.isin(both.order, both.order[takers]) & (both.order != _MISSING))
    rows = np.flatnonzero(concerned)
    rows = rows[np.lexsort((both.seq[rows], both.micros[rows]))]
    names = ["" if kind < 0 else EVENT_TYPES[kind] for kind in both.kind[rows].tolist()]
    others = (both.user, both.item, both.order, both.request)
    columns = [[None if n == _MISSING else n for n in values[rows].tolist()] for values in others]
    gone = np.zeros(len(both), bool)
    gone[rows[sorted(undone(map(InteractionEvent, names, *columns)))]] = True
    counts.undone = int(gone.sum())
    return both.take(~gone & ~takers)


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
    return [
        InteractionEvent(
            kind=EVENT_TYPES[kind] if kind >= 0 else "",
            person=_OWN,
            item=row,
            order=orders.get(place),
            micros=int(time) * _SECOND,
            event_number=number,
            source=SEALED if number else FILE,
        )
        for place, (row, time, kind, number) in enumerate(zip(rows, times, kinds, numbers, strict=True))
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
    took = undo_targets(every, places) if any(one.undoes for one in every) else {}
    taken = {place for own in took.values() for place in own}
    for place, one in enumerate(every):
        if (_is_own(one) and place in taken) or (one.undoes and took.get(place, True)):
            stored.append(one)
        elif _is_own(one) and place not in places and one.order is not None:
            stored.append(one._replace(person=_GONE))  # whoever took it
    return stored


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
