"""What events since a generation change in its answers: people's histories, and what is known of items.

Before each answer somebody looks whether anything was committed to the event log, which costs microseconds. Of what
came only changes of items are read, into a new state; answers under way keep the one that they began with. What
somebody did is read when they are asked about, up to the last event of the answer's state, and their vectors are
computed anew.

Items as events since the generation have left them: payloads, conditions on them, and what may be shown.

A changed item is judged by its payload of now. The index knows that of the generation, so a condition on a field that
changed somewhere is put to it with the items that fulfil it only now added, and those that no longer do left out.
"""

import math
import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from operator import attrgetter
from statistics import fmean
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from molar_indexes.generations import Generation
from molar_indexes.sessions import SessionReader
from molar_indexes.users import UserRecord
from molar_retrieval import columns
from molar_retrieval.data.availability import Availability
from molar_retrieval.data.event_history import (
    DEFAULT,
    InteractionEvent,
    StoredHistory,
    counted,
    history_entry,
    history_event_types,
    logged_events,
    order_line,
    stored_events,
    updated_history,
)
from molar_retrieval.data.event_parsing import DESCRIBE
from molar_retrieval.data.live_events import EventLogReader, LiveLine, PayloadFields, apply_attributes
from molar_retrieval.errors import MolarError
from molar_retrieval.privacy.pseudonyms import StoredName, of_key, session_key, user_key
from molar_retrieval.privacy.suppression import EVER, NEVER, NOBODY, SuppressionList
from molar_retrieval.ranking.filters import Expression, OneOf, Or, fields_of
from molar_retrieval.ranking.index_protocol import Index, IndexSpec, Search, SparseVector, StoredItem, Vector
from molar_retrieval.workspace.artefacts import Workspace

if TYPE_CHECKING:
    from molar_retrieval.ranking.item_store import ItemStore, Matrix

_CONDITIONS = 64  # of which is remembered which items turned over
_JOURNAL = 100_000  # changes beyond two of each item after which that is found out anew
_AT_ONCE = 1_000
_REMEMBERED = 2_000  # people whose vectors are kept
_arrival = attrgetter("seq")


class Turned(NamedTuple):
    """Changed items whose answer to a condition is another one now, after so many changes."""

    changes: int
    out: frozenset[int]  # rows that no longer fulfil it
    into: Mapping[int, str]  # ids by row of those that do now


class _Numbers(NamedTuple):
    """What the second stage reads of items, shape (n, m), after so many changes."""

    changes: int
    numbers: "Matrix"


class _Shared:
    """What the states of an index share: rows as they changed, answers to conditions, numbers of the second stage."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.journal: list[int] = []
        self.turned: dict[Expression, Turned] = {}
        self.numbers: _Numbers | None = None


@dataclass(frozen=True, eq=False)
class LiveIndex(Index):
    """The index of a generation with changed payloads, at one moment; it never changes.

    Attributes:
        index: As it was published.
        values: New values of fields by row, None for a field that has no value any more.
        fields: Those that changed in any item.
    """

    index: Index
    values: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    fields: frozenset[str] = frozenset()
    changes: int = 0
    _shared: _Shared = field(default_factory=_Shared)

    def with_changes(self, changes: Iterable[tuple[int, Mapping[str, Any]]]) -> Self:
        """With some more, the last ones last."""
        values, shared = dict(self.values), self._shared
        if len(shared.journal) > _JOURNAL + 2 * len(values):
            shared = _Shared()
        fresh = list(changes)
        for row, new in fresh:
            values[row] = {**values.get(row, {}), **new}
            shared.journal.append(row)
        fields = self.fields.union(*(new for _, new in fresh))
        return replace(self, values=values, fields=fields, changes=len(shared.journal), _shared=shared)

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        return self.index.spec

    @property
    def graphs(self) -> Collection[str]:
        """See :class:`molar_retrieval.ranking.index_protocol.Index`."""
        return self.index.graphs

    def searching(self, efs: Mapping[str, int]) -> Self:
        """The same with other candidate lists."""
        return replace(self, index=self.index.searching(efs))

    def __len__(self) -> int:
        return len(self.index)

    def top(
        self,
        name: str,
        query: Vector | SparseVector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
    ) -> list[tuple[int, float]]:
        """Rows and scores of the best; see :class:`molar_retrieval.ranking.index_protocol.Index`."""
        exclude, where = self._present(exclude, where)
        return self.index.top(name, query, k, exclude=exclude, where=where)

    def tops(
        self, searches: Sequence[Search], *, exclude: Iterable[int] = (), where: Expression | None = None
    ) -> list[list[tuple[int, float]]]:
        """The answers to several searches."""
        exclude, where = self._present(exclude, where)
        return self.index.tops(searches, exclude=exclude, where=where)

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """The items at ``rows`` with their payloads of now, in that order; unknown rows are left out."""
        return [self._now(item) for item in self.index.fetch(rows, vectors=vectors)]

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""
        return self.index.rows(item_ids)

    def close(self) -> None:
        """Release files; the index cannot be used afterwards."""
        self.index.close()

    def turned(self, where: Expression) -> Turned:
        """Which changed items answer a condition otherwise than before."""
        with self._shared.lock:
            known = self._shared.turned.pop(where, None)
            if known is None or known.changes > self.changes:  # the latter: by an answer that began after this one
                found = self._turned(where, Turned(0, frozenset(), {}), self.values)
            elif known.changes < self.changes:
                found = self._turned(where, known, set(self._shared.journal[known.changes : self.changes]))
            else:
                found = known
            latest = found if known is None or known.changes < found.changes else known
            self._shared.turned[where] = latest
            if len(self._shared.turned) > _CONDITIONS:
                del self._shared.turned[next(iter(self._shared.turned))]
        return found

    def concerns(self, where: Expression) -> bool:
        """Whether a field changed somewhere that a condition reads."""
        return bool(self.fields & fields_of(where))

    def fulfilling(self, where: Expression, published: frozenset[int]) -> frozenset[int]:
        """Rows of the items that fulfil a condition, from those that did when they were published."""
        if not self.concerns(where):
            return published
        turned = self.turned(where)
        return (published - turned.out).union(turned.into)

    def store(self, published: "ItemStore", standards: Mapping[str, tuple[float, float]]) -> "ItemStore":
        """The item store with the numbers of now; ``standards`` are mean and deviation of each, by field."""
        places = {name: place for place, name in enumerate(standards) if name in self.fields}
        if not places:
            return published
        import numpy as np  # opening a generation is to be light

        from molar_retrieval.ranking.reranker import standard

        with self._shared.lock:
            known, rows = self._shared.numbers, set(self.values)
            if known is None or known.changes > self.changes:  # the latter: by an answer that began after this one
                known = _Numbers(0, published.numbers)
            else:
                rows.intersection_update(self._shared.journal[known.changes : self.changes])
            changed = [(row, name) for row in rows for name in places.keys() & self.values[row].keys()]
            numbers = np.array(known.numbers) if changed else known.numbers
            for row, name in changed:
                value = np.asarray(_number(self.values[row][name]), np.float64)
                numbers[row, places[name]] = standard(value, *standards[name])
            self._shared.numbers = _Numbers(self.changes, numbers)
        return replace(published, numbers=numbers)

    def _present(self, exclude: Iterable[int], where: Expression | None) -> tuple[Iterable[int], Expression | None]:
        """What to leave out and a condition, as the payloads that are stored answer it, for those of now."""
        if where is None or not self.concerns(where):
            return exclude, where
        turned = self.turned(where)
        exclude = {*exclude, *turned.out} if turned.out else exclude
        if turned.into:
            where = Or((where, OneOf(columns.ITEM_ID, tuple(turned.into.values()))))
        return exclude, where

    def _turned(self, where: Expression, former: Turned, rows: Iterable[int]) -> Turned:
        """The same, from what was known before some rows changed."""
        out, into, concerned = set(former.out), dict(former.into), fields_of(where)
        for item in _in_parts(self.index, [row for row in rows if concerned & self.values[row].keys()]):
            before, now = item.fulfils(where), self._now(item).fulfils(where)
            out.discard(item.row)
            into.pop(item.row, None)
            if before and not now:
                out.add(item.row)
            elif now and not before:
                into[item.row] = item.item_id
        return Turned(self.changes, frozenset(out), into)

    def _now(self, item: StoredItem) -> StoredItem:
        if (new := self.values.get(item.row)) is None:
            return item
        payload = {name: value for name, value in {**item.payload, **new}.items() if value is not None}
        return replace(item, payload=payload)


def _number(value: Any) -> float:
    """A field's number, of several their mean, NaN where there is none."""
    numbers = [one for one in (value if isinstance(value, list | tuple) else [value]) if one is not None]
    return fmean(numbers) if numbers else math.nan


def _in_parts(index: Index, rows: Sequence[int]) -> Iterator[StoredItem]:
    """The items at some rows, some at a time."""
    for begin in range(0, len(rows), _AT_ONCE):
        yield from index.fetch(rows[begin : begin + _AT_ONCE])


@dataclass(frozen=True, eq=False)
class LiveItems:
    """Which items may be shown by the events since the generation, at one moment.

    Attributes:
        index: The items with their payloads of now.
        availability: The fields that say from when an item may be shown.
        always: Whether the generation alone shows the item at a row at any time.
        shown_from: By row, for items of which events say that anew, in microseconds since 1970.
    """

    index: LiveIndex
    availability: Availability
    always: Callable[[int], bool]
    shown_from: Mapping[int, int] = field(default_factory=dict)

    def with_changes(self, changes: Sequence[tuple[int, Mapping[str, Any]]]) -> Self:
        """With some more, the last ones last."""
        index = self.index.with_changes(changes)
        rows = list(dict.fromkeys(row for row, new in changes if self.availability.roles.keys() & new.keys()))
        # What shows an item at any time needs nothing of its other fields.
        known = {row: index.values[row] for row in rows if self.always(row)}
        known |= {item.row: item.payload for item in _in_parts(index, [row for row in rows if row not in known])}
        shown = {row: self.availability.shown_from(payload) for row, payload in known.items()}
        return replace(self, index=index, shown_from={**self.shown_from, **shown})

    def unavailable(self, published: frozenset[int], moment: int) -> frozenset[int]:
        """Rows of the items that may not be shown at a moment; ``published`` are those by the generation alone."""
        if not self.shown_from:
            return published
        return self._unavailable(published, bisect_right(self._moments, moment))

    @cached_property
    def _moments(self) -> list[int]:
        return sorted(set(self.shown_from.values()))

    @cached_property
    def _unavailable(self) -> Callable[[frozenset[int], int], frozenset[int]]:
        """The rows by those of the generation and how many of the moments are over; the last answer is kept."""
        moments, shown_from = self._moments, self.shown_from

        @lru_cache(maxsize=1)
        def rows(published: frozenset[int], over: int) -> frozenset[int]:
            later = set(moments[over:])
            return published.difference(shown_from).union(row for row, moment in shown_from.items() if moment in later)

        return rows


@dataclass(frozen=True, eq=False)
class OverlayState:
    """A generation's items and the events since, at one moment.

    Attributes:
        items: The items as they are now.
        last: The number of the last event that is known; 0 where there is none.
        taken_back: By user or session, returns of their orders that anybody sent.
        identified: Whether any session is known to be a user.
        described: Whether anything came since that says what somebody is.
        suppressed: People of whom nothing is read up to a moment each.
        notes: What whoever gets an answer should know, in sentences.
    """

    items: LiveItems
    last: int = 0
    identified: bool = False
    taken_back: Mapping[StoredName, tuple[LiveLine, ...]] = field(default_factory=dict)
    suppressed: SuppressionList = NOBODY
    notes: tuple[str, ...] = ()
    described: bool = False


class LivePerson(NamedTuple):
    """Somebody by all events of a state; ``record`` is None where no history is known, ``notes`` are for answers."""

    record: UserRecord | None
    notes: tuple[str, ...] = ()


OBJECTING = LivePerson(None, ("this person objects to lists of their own: it is what most people took",))
"""Who is to be answered as nobody."""


class _Session(NamedTuple):
    """What a session did that is known to be a user, and what others sent back of it.

    ``entries`` are what the generation has under the session's own key; None: the user's has them.
    """

    session: StoredName
    entries: Sequence[InteractionEvent] | None
    past: Sequence[LiveLine]
    lines: Sequence[LiveLine]
    returns: Sequence[LiveLine]

    def __bool__(self) -> bool:
        return bool(self.lines or self.returns or (self.entries is not None and (self.entries or self.past)))


class _Deeds(NamedTuple):
    """What the events say of somebody."""

    own: Sequence[LiveLine]
    others: Sequence[LiveLine]
    sessions: Sequence[_Session]
    until: int  # the last moment of what is left out

    @property
    def mark(self) -> tuple[object, ...]:
        """What tells them from other deeds of the same person: the log may remove a line, and never changes one."""
        marks = [
            (one.session, None if one.entries is None else len(one.entries), *map(_numbers, one[2:]))
            for one in self.sessions
        ]
        return _numbers(self.own), _numbers(self.others), marks, self.until


class _LastAsked(NamedTuple):
    """Somebody as they were last asked about."""

    extent: object  # of what is read of them: while it is the same, so are they
    mark: object  # of their deeds
    person: LivePerson


class Overlay:
    """Follows the event log for one generation, or knows it up to the event of a number; threads may share it."""

    def __init__(
        self, workspace: Workspace, generation: Generation, reader: SessionReader, until: int | None = None
    ) -> None:
        self._root = workspace.root
        self._generation, self._reader, self._log = generation, reader, EventLogReader(workspace)
        self._until = until
        facts = generation.manifest.facts
        events = facts.get("events", {})
        self._since, self._items_since = (int(events.get(kind, 0)) for kind in ("interactions", "catalogue"))
        self._days = bool(events.get("days"))
        self._kinds = history_event_types(events.get("kinds") or counted(DEFAULT))
        self._people: Mapping[str, str] = facts.get("segments", {})
        availability = Availability(**facts.get("availability", {}))
        self._fields = PayloadFields.of(generation.spec.fields, facts.get("payload", {}), availability)
        self._reading = threading.Lock()
        self._mark: object = None
        items = LiveItems(LiveIndex(generation.index), self._fields.availability, generation.always_shows)
        self._present = OverlayState(items)
        self._concerned: tuple[int, frozenset[str]] = -1, frozenset()
        self._known: dict[str, _LastAsked] = {}

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def now(self) -> OverlayState:
        """The present state, which holds all that was acknowledged before."""
        with self._reading:
            try:
                suppressed = SuppressionList.of(self._root)
                if suppressed is not self._present.suppressed:
                    self._present = replace(self._present, suppressed=suppressed)
                mark = self._log.mark
                if mark != self._mark:
                    self._present = self._read(self._present)
                    self._mark = mark
            except MolarError as error:
                words = f"what happened since generation {self._generation.name} cannot be read: {error.message}"
                return replace(self._present, notes=(words,))
            return self._present

    def person(self, state: OverlayState, key: str) -> LivePerson:
        """Who has a key of :mod:`molar_retrieval.privacy.pseudonyms`, by the generation and the events of a state.

        A session that is known to be a user is that user, with all that any of their sessions did.
        """
        key, sessions = self._known_as(state, key) if state.identified else (key, [])
        until = state.suppressed.keyed(key)
        if until == EVER:
            return OBJECTING
        extent = self._extent(state, key, sessions, until)
        if extent is None:
            return self._described(state, key, LivePerson(self._stored(key, until)))
        known = self._known.pop(key, None)
        if known is None or known.extent != extent:
            deeds = self._deeds(state, key, sessions, until)
            same = known is not None and known.mark == deeds.mark  # as after impressions, which are no deeds
            person = known.person if known is not None and same else self._by(deeds, key)
            known = _LastAsked(extent, deeds.mark, person)
        self._known[key] = known  # the last one again
        if len(self._known) > _REMEMBERED:
            self._known.pop(next(iter(self._known)), None)
        return self._described(state, key, known.person)

    def _extent(
        self, state: OverlayState, key: str, sessions: Sequence[tuple[StoredName, int]], until: int
    ) -> tuple[object, ...] | None:
        """What changes whenever anything that is read of somebody does, and costs a look-up; None: there is nothing."""
        own = self._log.extent(key, self._since, state.last) if state.last > self._since else (0, None)
        others = _numbers(state.taken_back.get(of_key(key)[1], ()))
        if not (own[0] or others or sessions):
            return None
        joined = [
            (
                *one,
                state.suppressed.session(one[0]),
                self._log.extent(session_key(one[0]), 0, state.last),
                _numbers(state.taken_back.get(one[0], ())),
            )
            for one in sessions
        ]
        return own, others, joined, until

    def _deeds(self, state: OverlayState, key: str, sessions: Sequence[tuple[StoredName, int]], until: int) -> _Deeds:
        own = self._lines(state, key, self._since, until)
        joined = [self._joined(state, session, seq, until) for session, seq in sessions]
        return _Deeds(own, self._returns(state, key, own, until), joined, until)

    def _by(self, deeds: _Deeds, key: str) -> LivePerson:
        """Somebody by what the generation has of them and their deeds since."""
        stored = self._stored(key, deeds.until)
        done = any((deeds.own, deeds.others, *deeds.sessions))
        return self._continued(stored, key, deeds) if done else LivePerson(stored)

    def described(self, state: OverlayState, key: str, stored: Mapping[str, Any]) -> Mapping[str, Any]:
        """What somebody is, by attributes that the generation has and the events of a state."""
        kind, name = of_key(key)
        if not state.described or kind != "user_id":
            return stored
        until = state.suppressed.keyed(key)
        said = (data for micros, data in self._log.said_of(name, self._since, state.last) if micros > until)
        return apply_attributes(stored, said, self._people)

    def _described(self, state: OverlayState, key: str, found: LivePerson) -> LivePerson:
        if not state.described or found.record is None:
            return found
        attributes = self.described(state, key, found.record.attributes)
        return LivePerson(replace(found.record, attributes=attributes), found.notes)

    def had(self, state: OverlayState, key: str) -> frozenset[int]:
        """Rows of all that somebody had by the events of a state, be it given back; it costs a few look-ups.

        A session that is known to be a user had what that one had, but for what others of theirs did since the
        generation.
        """
        (kind, name), keys, rows = of_key(key), [key], set[int]()
        if kind == "session_id" and state.identified and (user := self._log.user_of(name, state.last)) is not None:
            keys.append(user_key(user[0]))
        for own in keys:
            until = state.suppressed.keyed(own)
            stored = self._stored(own, until)
            rows.update([] if stored is None else map(int, stored.history))
            lines = self._lines(state, own, self._since, until)
            since = {line.item_id for line in lines if line.item_id is not None}
            rows.update(row for row in self._generation.rows(sorted(since)) if row is not None)
        return frozenset(rows)

    def people(self, state: OverlayState, users: Sequence[UserRecord]) -> list[UserRecord | None]:
        """Users of the generation by all events of a state; None of whom no history is left."""
        since = self._people_since(state) if users else frozenset()
        listed = state.suppressed
        found = [
            self.person(state, one.user_id).record
            if one.user_id in since or (listed and listed.keyed(one.user_id) != NEVER)
            else one
            for one in users
        ]
        return [None if one is None or not len(one.history) else one for one in found]

    def _people_since(self, state: OverlayState) -> frozenset[str]:
        """Keys of all whom an event of a state concerns; those of the last state are kept."""
        known = self._concerned
        if known[0] != state.last:
            kinds = (*self._kinds, DESCRIBE)
            keys = self._log.people(self._since, state.last, kinds) if state.last > self._since else set()
            names = state.taken_back
            keys |= {key(name) for name in names for key in (user_key, session_key)}
            if state.identified:
                sessions = {session_key(one): user for one, user in self._log.identified(state.last).items()}
                keys |= {user_key(sessions[key]) for key in keys if key in sessions}
            known = self._concerned = state.last, frozenset(keys)
        return known[1]

    def _known_as(self, state: OverlayState, key: str) -> tuple[str, list[tuple[StoredName, int]]]:
        """The key of the user that somebody is, and their sessions with the number of the line that says so."""
        kind, name = of_key(key)
        if kind == "session_id":
            user = self._log.user_of(name, state.last)
            if user is None:
                return key, []
            name = user[0]
        return user_key(name), self._log.sessions_of(name, state.last)

    def stored(self, state: OverlayState, key: str) -> UserRecord | None:
        """Who the generation has under a key, unless they are left out."""
        return self._stored(key, state.suppressed.keyed(key))

    def _stored(self, key: str, until: int) -> UserRecord | None:
        """Who is stored under a key, unless the record has anything of before a moment."""
        found = self._generation.users.keyed(key)
        if found is None or until == NEVER:
            return found
        return found if len(found.times) and int(found.times[0]) * 1_000_000 > until else None

    def _lines(self, state: OverlayState, key: str, since: int, until: int) -> list[LiveLine]:
        """What somebody did since a line of the log, after a moment."""
        return self._past(key, since, state.last, until) if state.last > since else []

    def _past(self, key: str, since: int, last: int, until: int) -> list[LiveLine]:
        lines = self._log.of_person(key, since, last, self._kinds)
        return lines if until == NEVER else [line for line in lines if line.micros > until]

    @staticmethod
    def _returns(state: OverlayState, key: str, own: Sequence[LiveLine], until: int) -> list[LiveLine]:
        """What others sent back of somebody's orders."""
        seen = {line.seq for line in own}
        lines = state.taken_back.get(of_key(key)[1], ())
        return [line for line in lines if line.seq not in seen and line.micros > until]

    def _joined(self, state: OverlayState, session: StoredName, seq: int, until: int) -> _Session:
        """A session of a user: what the generation counts as theirs, and what it does not know to be theirs."""
        key, contained = session_key(session), seq <= self._since
        until = max(until, state.suppressed.session(session))
        lines, past = self._lines(state, key, self._since, until), self._past(key, 0, self._since, until)
        entries = None if contained else _entries(self._stored(key, until))
        return _Session(session, entries, past, lines, self._returns(state, key, lines, until))

    def _continued(self, stored: UserRecord | None, key: str, deeds: _Deeds) -> LivePerson:
        apart = [one for one in deeds.sessions if one.entries is not None]
        before = self._past(key, 0, self._since, deeds.until)
        before += [line for one in deeds.sessions if one.entries is None for line in one.past]
        before.sort(key=_arrival)
        own = sorted([*deeds.own, *(line for one in deeds.sessions for line in one.lines)], key=_arrival)
        sent = {line.seq for line in own}
        returns = [*deeds.others, *(line for one in deeds.sessions for line in one.returns)]
        others = list({line.seq: line for line in returns if line.seq not in sent}.values())
        names = {of_key(key)[1], *(one.session for one in deeds.sessions)}
        every = [*before, *(line for one in apart for line in one.past), *own, *others]
        orders = {line.order for line in every if line.order is not None and line.kind == "return"}
        sold = [(order, *one) for order in orders for one in self._log.bought(order)]
        ids = {line.item_id for line in every if line.item_id is not None}
        named = sorted(ids.union(item for *_, item, _ in sold))
        rows = {i: row for i, row in zip(named, self._generation.rows(named), strict=True) if row is not None}
        former = _entries(stored)
        history = updated_history(
            StoredHistory(former, logged_events(before, rows)),
            [StoredHistory(one.entries or (), logged_events(one.past, rows)) for one in apart],
            [*logged_events(own, rows), *logged_events(others, rows, own=False)],
            [order_line(order, rows[item], own=who in names) for order, who, item, _ in sold if item in rows],
            days=self._days,
        )
        notes = self._notes(own, rows)
        if not history or history == list(map(history_entry, former)):
            return LivePerson(stored if history else None, notes)
        attributes = {} if stored is None else stored.attributes
        found = self._reader([row for row, _ in history], [time for _, time in history])
        return LivePerson(replace(found, user_id=key, attributes=attributes), notes)

    def _notes(self, lines: Sequence[LiveLine], rows: Mapping[str, int]) -> tuple[str, ...]:
        count = sum(line.item_id is not None and line.item_id not in rows for line in lines)
        if not count:
            return ()
        words = f"{count:,} of this person's events since generation {self._generation.name}"
        return (f"{words} are left out: it does not have their items yet",)

    def _read(self, former: OverlayState) -> OverlayState:
        with self._log.at_once():
            last = self._log.last if self._until is None else min(self._log.last, self._until)
            changes = self._log.changes_of_items(max(former.last, self._items_since), last)
            returns = self._log.orders_taken_back(max(former.last, self._since), last)
            identified = former.identified or self._log.has_identified
            told = former.described or self._log.describes(max(former.last, self._since), last)
            bought = {line.order: {who for who, *_ in self._log.bought(line.order)} for line in returns if line.order}
        taken_back = dict(former.taken_back)
        for line in returns:
            for who in bought.get(line.order or "", ()):
                taken_back[who] = (*taken_back.get(who, ()), line)
        items = self._changed(former.items, changes)
        return OverlayState(items, last, identified, taken_back, former.suppressed, described=told)

    def _changed(self, items: LiveItems, changes: Sequence[Mapping[str, Any]]) -> LiveItems:
        ids = list(dict.fromkeys(change["item_id"] for change in changes))
        rows = dict(zip(ids, self._generation.index.rows(ids), strict=True)) if ids else {}
        fresh = []
        for change in changes:
            row, values = rows[change["item_id"]], self._fields.changed(change["event"], change["data"])
            if row is not None and values:
                fresh.append((row, values))
        return items.with_changes(fresh) if fresh else items


def _numbers(lines: Iterable[LiveLine]) -> "array[int]":
    return array("q", map(_arrival, lines))


def _entries(stored: UserRecord | None) -> list[InteractionEvent]:
    """The events of a history, oldest first."""
    return [] if stored is None else stored_events(stored.history, stored.times, stored.events)
