"""Interactions of the file joined with events of the log, of all users: each event once, none that is undone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data.event_history import (
    _PURCHASE_CODE,
    _SECOND,
    TAKES_OUT,
    InteractionEvent,
    history_event_types,
    undone,
)
from molar_retrieval.data.event_log_reader import EventLogSnapshot, suppressed_lines
from molar_retrieval.data.event_parsing import EVENT_TYPES, event_type
from molar_retrieval.data.interaction_reader import Codes
from molar_retrieval.data.interactions import RawInteractions, first_rows, ordered
from molar_retrieval.data.rows import Mask
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.pseudonyms import StoredName, person_keys
from molar_retrieval.privacy.suppression import NOBODY, SuppressionList

Ints = npt.NDArray[np.int64]


_COLUMNS = ("event", "user_id", "session_id", "item_id", "timestamp", "transaction_id", "request_id", "seq")


_MISSING, _UNKNOWN = -1, -2


_BLOCK = 1 << 20  # times that are looked at at a time


_RATING_CODE = EVENT_TYPES.index("rating")


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
