"""Interactions of the file joined with events of the log, of all users: each event once, none that is undone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data.event_history import TAKES_OUT, InteractionEvent, history_event_types, undone
from molar_retrieval.data.event_log_reader import EventLogSnapshot, suppressed_lines
from molar_retrieval.data.event_parsing import EVENT_TYPES
from molar_retrieval.data.interaction_reader import Codes
from molar_retrieval.data.interactions import RawInteractions, counts, first_rows, ordered
from molar_retrieval.data.rows import Mask
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.pseudonyms import person_keys
from molar_retrieval.privacy.suppression import NOBODY, SuppressionList

Ints = npt.NDArray[np.int64]
PURCHASE, _RATING = EVENT_TYPES.index("purchase"), EVENT_TYPES.index("rating")
_TAKES_OUT = [EVENT_TYPES.index(kind) for kind in TAKES_OUT]
_COLUMNS = ("event", "user_id", "session_id", "item_id", "timestamp", "transaction_id", "request_id", "seq")
_NO_ITEM, _UNKNOWN_ITEM = -1, -2
_BLOCK = 1 << 20  # times that are looked at at a time
_SECOND = 1_000_000


class Joined(NamedTuple):
    """What a file and the events beside it say, once and without what was undone.

    ``log`` has the rows of the file in their order, whose ``number`` is 0, then the events as they arrived. ``users``
    are keys by number, the first ``of_file`` those of the file, ``orders`` are ids by number, and ``counts`` say what
    became of the events.
    """

    log: RawInteractions
    users: list[str]
    of_file: int
    orders: list[str]
    counts: dict[str, int]

    def kinds(self, weights: Mapping[str, float]) -> list[str]:
        """The kinds of a weighting that occur; the file's interactions are purchases unless it says otherwise."""
        there = set(pc.unique(pa.array(self.log.event)).to_pylist())
        return [kind for kind in weights if EVENT_TYPES.index(kind) in there]

    def weighted(self, weights: Mapping[str, float]) -> tuple[RawInteractions, pa.Array]:
        """The ordered log of the kinds that have a weight, and its users' keys by row.

        Rows of the file are as strong as the strongest kind. Users of the file keep their order, others follow as they
        came.
        """
        every = self.log.columns
        weight_of = np.array([weights.get(kind, 0.0) for kind in EVENT_TYPES])
        log = self.log.take((every["number"] == 0) | (weight_of[np.maximum(every["event"], 0)] > 0))
        events = np.flatnonzero(log.columns["number"])
        self.counts["counted"] = len(events)
        own = weight_of[log.columns["event"][events]]
        highest = weight_of.max() if len(events) < len(log) else own.max(initial=0.0)
        strength = np.ones(len(log), np.float32)
        strength[events] = own / (highest or 1.0)
        weight = strength.copy() if log.weight is None else strength * log.weight
        numbers, first = np.unique(log.user[events], return_index=True)
        came = numbers >= self.of_file
        of_file = np.flatnonzero(counts(log.user, len(self.users))[: self.of_file])
        who = np.concatenate([of_file, numbers[came][np.argsort(first[came])]])
        place = np.empty(len(self.users), np.int32)
        place[who] = np.arange(len(who))
        log = replace(
            log,
            user=place[log.user],
            weight=None if (weight == 1).all() else weight,
            strength=None if (strength == 1).all() else strength,
            request=None,
        )
        return ordered(log), pa.array([self.users[number] for number in who.tolist()], pa.large_string())


def with_events(
    file: RawInteractions | None,
    keys: Sequence[str],
    items: IdMap,
    state: EventLogSnapshot,
    weights: Mapping[str, float],
    zone: str | None = None,
    suppressed: SuppressionList = NOBODY,
) -> Joined | None:
    """What a file and the events beside it say; None where there is no event that matters.

    Args:
        file: The ordered log of the file without repetitions, or None.
        keys: The users' keys by row.
        items: The catalogue's ids.
        state: The event log.
        weights: Kinds of events that are read, by what each counts.
        zone: Where the days of a file begin that has no times of day, by default UTC.
        suppressed: People of whom nothing is read up to a moment each, as long as the log has anything of them.
    """
    users, orders, requests = Codes(keys), Codes(), Codes()
    identified = state.identified(suppressed)
    parts = []
    for table in state.tables(_COLUMNS, history_event_types(weights)):
        if suppressed:
            table = table.filter(pa.array(~suppressed_lines(table, suppressed)))
        item = items.rows(table["item_id"])
        item[(item < 0) & np.asarray(pc.is_valid(table["item_id"]))] = _UNKNOWN_ITEM
        part = dict(
            user=users.encode(person_keys(table["user_id"], table["session_id"], identified)),
            item=item,
            micros=table["timestamp"].cast(pa.int64()).to_numpy(),
            event=np.asarray(pc.index_in(table["event"], pa.array(EVENT_TYPES)), np.int32),
            number=table["seq"].to_numpy(),
            order=orders.encode(table["transaction_id"]),
            request=requests.encode(table["request_id"]),
        )
        parts.append(part)
    if not sum(len(part["user"]) for part in parts):
        return None
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    outcome = {"counted": 0, "of_unknown_items": int((columns["item"] == _UNKNOWN_ITEM).sum())}
    arrived = np.argsort(columns["number"])
    arrived = arrived[columns["item"][arrived] != _UNKNOWN_ITEM]
    columns = {name: values[arrived] for name, values in columns.items()}
    order = np.where(np.isin(columns["event"], _TAKES_OUT), columns["order"], 0)
    first = first_rows(*(columns[name] for name in ("user", "item", "micros", "event")), order)
    new = first == np.arange(len(first))
    outcome["repeated"] = int((~new).sum())
    events = RawInteractions(**columns).take(new)
    touched = np.arange(len(events))
    if file is not None:
        touched = np.append(np.flatnonzero(~_untouched(file.user, events.user, len(users.rows))), touched + len(file))
        events = _after(file, events)
    gone = np.zeros(len(events), bool)
    if file is not None and file.micros is not None:
        gone[_in_file(events, touched, _rounding(file.micros, zone))] = True
    outcome["in_file"] = int(gone.sum())
    taken, takers = _undone(events, touched[~gone[touched]])
    gone[taken] = gone[takers] = True
    outcome["undone"] = len(taken)
    return Joined(events.take(~gone), list(users.rows), len(keys), list(orders.rows), outcome)


def _after(file: RawInteractions, events: RawInteractions) -> RawInteractions:
    """The rows of a file, then events."""
    missing = {"micros": 0, "weight": 1, "position": np.nan, "event": PURCHASE, "number": 0, "order": -1, "request": -1}
    columns = {}
    for name in {**file.columns, **events.columns}:
        parts = [getattr(part, name) for part in (file, events)]
        kind = next(values.dtype for values in parts if values is not None)
        sized = zip(parts, (len(file), len(events)), strict=True)
        columns[name] = np.concatenate([np.full(n, missing[name], kind) if v is None else v for v, n in sized])
    return RawInteractions(**columns)


def _untouched(user: npt.NDArray[np.int32], of_events: npt.NDArray[np.int32], users: int) -> Mask:
    """Which rows of a file are of people of whom there is no event: nothing of theirs is repeated or taken back."""
    alone = np.ones(users, bool)
    alone[of_events] = False
    return np.concatenate([np.zeros(0, bool), *(alone[part] for part in _parts(user))])


def _in_file(both: RawInteractions, rows: Ints, rounded: Callable[[Ints], Ints]) -> Ints:
    """Which of some rows are events that the file has: same user, item, kind and time, as exactly as it says times.

    The file's rows are told the order and the request.
    """
    part, told = both.take(rows).columns, both.columns
    kind = np.where(part["event"] == _RATING, PURCHASE, part["event"])
    first = first_rows(part["user"], part["item"], rounded(part["micros"]), kind)
    again = np.flatnonzero((part["number"] > 0) & (part["number"][first] == 0))
    for name in ("order", "request"):
        told[name][rows[first[again]]] = part[name][again]
    return rows[again]


def _undone(both: RawInteractions, rows: Ints) -> tuple[Ints, Ints]:
    """Which of some rows are taken back by others of them, and which take back."""
    part = both.take(rows).columns
    item, order, takers = part["item"], part["order"], np.isin(part["event"], _TAKES_OUT)
    if not takers.any():
        return rows[:0], rows[:0]
    pair = part["user"].astype(np.int64) * (int(item.max()) + 2) + item + 1
    near = np.flatnonzero(np.isin(pair, pair[takers]) | (np.isin(order, order[takers]) & (order >= 0)))
    near = near[np.argsort(part["micros"][near], kind="stable")]
    names = ["" if kind < 0 else EVENT_TYPES[kind] for kind in part["event"][near].tolist()]
    others = (part[name][near].tolist() for name in ("user", "item", "order", "request"))
    columns = [[None if n < 0 else n for n in values] for values in others]
    return rows[near[sorted(undone(map(InteractionEvent, names, *columns)))]], rows[takers]


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
