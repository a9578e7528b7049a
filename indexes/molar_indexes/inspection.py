"""What is known of an item or a user now: how an item stands, what keeps it out, a history, and lists by another one.

What somebody's list would be if their history were another one, and what each item of it does for a score.

Nothing is written: the history is read, some of its items are left out or others put at its end, with the times that
the rest has, and the list is made as any other, by the second stage and the rules.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from molar_indexes.answerer import Answerer
from molar_indexes.constraints import Constraints
from molar_indexes.generations import KIND, USERS
from molar_indexes.live_state import LiveItems
from molar_indexes.recommender import Recommender
from molar_indexes.users import UserRecord, UserStore
from molar_retrieval import columns, limits
from molar_retrieval.data.availability import ALWAYS, iso, moment
from molar_retrieval.data.event_parsing import EVENT_TYPES
from molar_retrieval.data.live_events import EventLogReader
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, of_key, session_key, user_key
from molar_retrieval.privacy.suppression import NEVER, SuppressionList
from molar_retrieval.ranking.explanations import ANONYMITY
from molar_retrieval.ranking.query import LIFT, Query, check_subjects
from molar_retrieval.ranking.results import Recommendation, Recommendations
from molar_retrieval.workspace.artefacts import Workspace

if TYPE_CHECKING:
    from molar_retrieval.ranking.item_store import ItemStore
    from molar_retrieval.workspace.tensors import Array, Rows

LATEST = 50
"""Of the different items of a history so many, the latest, are looked at one by one; of long histories fewer."""
_READ, _FEWEST = 25_000, 10  # entries of histories that are read, in all; items that are looked at all the same
_SIMILAR = 3  # ids that are named where one is unknown


@dataclass(frozen=True)
class Obstacle:
    """What keeps an item out of lists.

    Attributes:
        kind: Withdrawn, sold out, not on sale yet, or a rule.
        problem: In a sentence.
        remedy: What to do where it should not be so.
        segment: Of a rule, the part of the users that it is for; None: everybody.
    """

    kind: Literal["withdrawn", "sold_out", "not_yet", "rule"]
    problem: str
    remedy: str
    segment: str | None = None


@dataclass(frozen=True)
class ItemStanding:
    """An item of the live generation as it is now.

    Attributes:
        item_id: The item.
        attributes: What is kept of it for filters and display, with the changes of events.
        obstacles: What keeps it out; empty: it can be shown.
        cold_start: Whether it has no interactions in the generation, so that it has cold-start items' places.
        generation: Which has it.
        events: The last event that is known, by its number.
    """

    item_id: str
    attributes: Mapping[str, Any]
    obstacles: tuple[Obstacle, ...]
    cold_start: bool
    generation: str
    events: int


def standing_of(recommender: Recommender, item_id: str) -> ItemStanding | None:
    """How an item stands in the next answer; None where the generation does not have it.

    SettingsError if the rules are wrong.
    """
    with recommender.answering() as answerer:
        constraints, state = answerer.present()
        (row,) = answerer.generation.rows([item_id])
        if row is None:
            return None
        vectors = [columns.ALIGNED]
        (item,) = state.items.index.fetch([row], vectors=vectors)
        return ItemStanding(
            item_id,
            dict(item.payload),
            tuple(_obstacles(item_id, item.payload, state.items, constraints)),
            columns.ALIGNED not in item.vectors,
            answerer.generation.name,
            state.last,
        )


def _obstacles(
    item_id: str, payload: Mapping[str, Any], items: LiveItems, constraints: Constraints
) -> Iterator[Obstacle]:
    availability = items.availability
    active, stock = payload.get(availability.active), payload.get(availability.stock)
    if active is False:
        yield Obstacle("withdrawn", f"{availability.active} is false", f"set {availability.active} to true")
    if isinstance(stock, int | float) and stock <= 0:
        yield Obstacle("sold_out", f"{availability.stock} is {stock:g}", f"set {availability.stock}")
    rest = {name: value for name, value in payload.items() if name == availability.available_from}
    shown_from = availability.shown_from(rest)
    if shown_from != ALWAYS and shown_from > moment():
        when = availability.available_from
        yield Obstacle("not_yet", f"it is shown from {iso(shown_from)} on", f"set {when} to an earlier time")
    if constraints.rules is not None:
        for rule in constraints.rules.against({columns.ITEM_ID: item_id, **payload}):
            told = f"the rule {rule.title!r} keeps it out"
            yield Obstacle("rule", told, "change the rule, or what it reads of the item", rule.segment)


@dataclass(frozen=True)
class PersonStanding:
    """Somebody as the next answer reads them.

    Attributes:
        history: Item ids, oldest first, with the times in seconds since 1970; 0 where none is known.
        attributes: By which rules may choose people; of who has no history yet, those that events say.
        in_generation: Whether the generation has them, so that they are not known by events alone.
        notes: What answers say of them.
        generation: Which answers.
        events: The last event that is known, by its number.
    """

    history: tuple[tuple[str, int], ...]
    attributes: Mapping[str, Any]
    in_generation: bool
    notes: tuple[str, ...]
    generation: str
    events: int


def person_of(recommender: Recommender, key: str) -> PersonStanding:
    """Who has a key of :mod:`molar_retrieval.privacy.pseudonyms`; without a history where nothing is known."""
    with recommender.answering() as answerer:
        _, state = answerer.present()
        stored, said = answerer.stored(state, key)
        record, notes = answerer.person(state, key)
        rows = [] if record is None else [int(row) for row in record.history]
        ids = {item.row: item.item_id for item in answerer.generation.index.fetch(sorted(set(rows)))}
        times = [] if record is None else [int(time) for time in record.times]
        return PersonStanding(
            tuple((ids[row], time) for row, time in zip(rows, times, strict=True)),
            dict(said if record is None else record.attributes),
            stored is not None,
            notes,
            answerer.generation.name,
            state.last,
        )


def similar_ids(workspace: Workspace, id_: str, *, is_session: bool = False) -> list[str]:
    """Known ids that differ from one by case or surrounding blanks alone; three at most.

    They are for who operates the shop: nobody else is to learn which ids are known. Where people are stored under
    pseudonyms, some usual spellings of the id are looked up, and all others stay unknown.
    """
    names, suppressed = Pseudonymiser.of(workspace.root), SuppressionList.of(workspace.root)
    keyed, folded = session_key if is_session else user_key, id_.strip().casefold()
    spellings = dict.fromkeys(f(one) for one in (id_.strip(), id_) for f in (str, str.lower, str.upper, str.title))
    wanted = {keyed(names.session(one) if is_session else names.user(one)): one for one in spellings if one.strip()}
    found: dict[str, str] = {}
    for key in _known_keys(workspace):
        kind, name = of_key(key)
        if not names.keys and (kind == "session_id") == is_session and name.strip().casefold() == folded:
            found[key] = name
        elif key in wanted:
            found[key] = wanted[key]
    return sorted(one for key, one in found.items() if one != id_ and suppressed.keyed(key) == NEVER)[:_SIMILAR]


def _known_keys(workspace: Workspace) -> Iterator[str]:
    """The keys of all people of the live generation, and of those in the event log that is not sealed."""
    live = workspace[KIND].current
    if live is not None and (live / USERS).exists():
        with UserStore(live / USERS) as users:
            yield from users.keys()
    with closing(EventLogReader(workspace)) as log:
        if log.mark is not None:
            yield from log.people(0, log.last, EVENT_TYPES)


def titles_of(recommender: Recommender, item_ids: Iterable[str]) -> dict[str, str | None]:
    """Titles of items as they are now, by id; items that the generation does not have are left out."""
    with recommender.answering() as answerer:
        index = answerer.present()[1].items.index
        rows = [row for row in index.rows(list(dict.fromkeys(item_ids))) if row is not None]
        return {item.item_id: item.payload.get(columns.TITLE) for item in index.fetch(rows)}


@dataclass(frozen=True)
class Supposition:
    """What is supposed of somebody's history.

    Attributes:
        without: Items that they never took; those that the history does not have change nothing.
        taking: Items that they take next, the first one first, at the moment from which the list is made.
    """

    without: Collection[str] = ()
    taking: Sequence[str] = ()

    def __post_init__(self) -> None:
        for names in filter(None, (self.without, self.taking)):
            check_subjects(session=list(names))


@dataclass(frozen=True)
class HistoryWeight:
    """What an item of a history does for the score of a listed one.

    Attributes:
        item_id: The item of the history.
        times: How often it is there.
        loss: What the sum of the parts would lose if the item were not there, by part: the difference of two runs, of
            which the other items' share moves too. Below 0: it would gain.
        addend: What the counting parts add for it, exactly: with those of all other items, and ``untold``, this is
            their score. None where fewer than five people had both.
    """

    item_id: str
    times: int
    loss: Mapping[str, float]
    addend: float | None

    @property
    def total(self) -> float:
        """What the sum of the parts would lose."""
        return sum(self.loss.values())


@dataclass(frozen=True)
class ScoreOrigins:
    """Where the score of an item comes from.

    Attributes:
        item_id: The item.
        parts: Addends of its score, without what depends on the other candidates: second stage, rules, places of new
            items.
        history: What each of the latest different items of the history does, at most :data:`LATEST`, those without
            which the score would lose most first.
        left_out: How many different items of the history were not looked at.
        untold: What the counting parts add for items of the history that have no addend of their own.
    """

    item_id: str
    parts: Mapping[str, float]
    history: tuple[HistoryWeight, ...]
    left_out: int
    untold: float


def list_if(recommender: Recommender, key: str, supposed: Supposition, query: Query) -> Recommendations:
    """The list of who has a key of :mod:`molar_retrieval.privacy.pseudonyms`, as it would be.

    Where nothing is supposed it is the list of now; where nothing is left of the history, the popular one.

    Raises:
        RequestError: If an item that they would take is unknown, or the query is wrong.
        SettingsError: If the rules are wrong.
    """
    with recommender.answering() as answerer:
        now = recommender.now
        return answerer.supposing(key, query, lambda user: _supposed(answerer, user, key, supposed, now), now)


def origins_of(
    recommender: Recommender, key: str, item_ids: Sequence[str], supposed: Supposition | None = None
) -> tuple[ScoreOrigins, ...]:
    """Where the scores of some items come from, for who has a key; known items alone, in their order.

    A list is read off the vectors that the generation has, which are those of the same history to 1e-4.

    Args:
        recommender: What answers.
        key: Of :mod:`molar_retrieval.privacy.pseudonyms`.
        item_ids: The items.
        supposed: What is supposed of the history; None: nothing.
    """
    with recommender.answering() as answerer:
        _, state = answerer.present()
        user = answerer.person(state, key).record
        user = _supposed(answerer, user, key, supposed or Supposition(), recommender.now)
        rows = [row for row in answerer.generation.rows(item_ids) if row is not None]
        if user is None or not rows:
            return ()
        return tuple(_origins(answerer, answerer.ranker_of(user, recommender.now).store, user, np.array(rows)))


def _supposed(
    answerer: Answerer, user: UserRecord | None, key: str, supposed: Supposition, now: datetime | None
) -> UserRecord | None:
    """The record of a history that is as it is supposed to be."""
    gone = set(answerer.generation.rows(list(supposed.without)))
    more = answerer.present()[0].rows(supposed.taking) if supposed.taking else []
    past = [] if user is None else list(zip(map(int, user.history), map(int, user.times), strict=True))
    kept = [(row, time) for row, time in past if row not in gone]
    if len(kept) == len(past) and not more:
        return user
    at = max(moment(now) // 1_000_000, kept[-1][1] if kept else 0)
    kept += [(row, at) for row in more]
    if not kept:
        return None
    fresh = answerer.read([row for row, _ in kept], [time for _, time in kept])
    if user is None:
        return replace(fresh, user_id=key)
    return replace(fresh, user_id=key, attributes=user.attributes, active=user.last)  # they are there all the same


def _origins(answerer: Answerer, store: "ItemStore", user: UserRecord, rows: "Rows") -> Iterator[ScoreOrigins]:
    index = answerer.generation.index
    history, times = np.asarray(user.history, np.int64), np.asarray(user.times, np.int64)

    def parts_of(kept: "Array") -> "Array":
        if not kept.any():
            return np.zeros((len(rows), len(store.names)))
        own = answerer.read(history[kept].tolist(), times[kept].tolist())
        return store.split(own.vector, own.sparse, rows)

    every = parts_of(np.ones(len(history), bool))
    latest = list(dict.fromkeys(history[::-1].tolist()))
    asked = latest[: min(LATEST, max(_FEWEST, _READ // len(history)))]
    losses = [every - parts_of(history != row) for row in asked]
    names = {item.row: item.item_id for item in index.fetch([*asked, *rows.tolist()])}
    addends, untold = _addends(store, user, rows)
    for place, row in enumerate(rows.tolist()):
        known = addends[place]
        weights = [
            HistoryWeight(
                names[own],
                int((history == own).sum()),
                dict(zip(store.names, loss[place].tolist(), strict=True)),
                known.pop(own, None),
            )
            for own, loss in zip(asked, losses, strict=True)
        ]
        yield ScoreOrigins(
            names[row],
            dict(zip(store.names, every[place].tolist(), strict=True)),
            tuple(sorted(weights, key=lambda one: -one.total)),
            len(latest) - len(asked),
            untold[place] + sum(known.values()),
        )


def _addends(store: "ItemStore", user: UserRecord, rows: "Rows") -> tuple[list[dict[int, float]], list[float]]:
    """What the counting parts add for each item of the history, by listed item, and what is not told of it."""
    found = store.sparse_products(user.sparse, rows)
    addends: list[dict[int, float]] = [{} for _ in rows]
    untold = [0.0] * len(rows)
    for dimension, place, value, support in zip(*(column.tolist() for column in found), strict=True):
        row = dimension % len(store)
        if support >= ANONYMITY:
            addends[place][row] = addends[place].get(row, 0.0) + value
        else:
            untold[place] += value
    return addends, untold


@dataclass(frozen=True)
class Place:
    """An item in a long list of somebody.

    Attributes:
        place: Its place, from 1; None: it is behind the ``bounds.K`` items that one list may have, or not on it.
        score: Its score; None where it was not ranked at all.
        parts: The addends of that.
    """

    place: int | None
    score: float | None
    parts: Mapping[str, float]


@dataclass(frozen=True)
class ItemForPerson:
    """How an item stands for somebody.

    Attributes:
        standing: How it stands for everybody; None: the generation does not have it.
        known: Whether anything is known of the person; the list of the others is that of what most people took.
        had: Whether it is in their history, which lists hide; then the long lists have all of it.
        k: Length of the list.
        listed: Its place on the list as it is; None: it is not there.
        rule: What put it there, or None: its score did.
        by_score: Where it is without rules.
        with_rules: Where it is with rules, likewise.
        last: The last item of the list by score, of cold-start items if it is one, else of the others, which it would
        have
            to overtake; None: the list is empty.
        generation: Which answered.
    """

    standing: ItemStanding | None
    known: bool
    had: bool
    k: int
    listed: int | None
    rule: str | None
    by_score: Place
    with_rules: Place
    last: Recommendation | None
    generation: str


def item_for_person(recommender: Recommender, item_id: str, key: str, k: int = 10) -> ItemForPerson:
    """How an item stands for who has a key of :mod:`molar_retrieval.privacy.pseudonyms`, in a list of ``k`` items.

    Three lists are made: that of the person, and long ones with and without rules. New items are drawn for none.

    Raises:
        RequestError: If ``k`` is beyond its bound.
        SettingsError: If the rules are wrong.
    """
    standing = standing_of(recommender, item_id)
    with recommender.answering() as answerer:
        if standing is None:
            nowhere = Place(None, None, {})
            return ItemForPerson(None, False, False, k, None, None, nowhere, nowhere, None, answerer.generation.name)

        def listed(k: int, **more: object) -> Recommendations:
            query = Query(k=k, explore=False, **more)  # type: ignore[arg-type]
            kind, name = of_key(key)
            user_id, session_id = (name, None) if kind == "user_id" else (None, name)
            return answerer.query(user_id, session_id, query, "popular", None, recommender.now)

        had = item_id in _history(answerer, key)
        shown = listed(k)
        free, ruled = (listed(limits.K, filter_seen=not had, rules=rules) for rules in (False, True))
        alone = listed(1, filter_seen=not had, rules=False, candidates=(item_id,))
        first = [item for item in free.items if item.rank_by_score <= k]
        alike = [item for item in first if (LIFT in item.parts) == standing.cold_start] or first
        place = next((item for item in shown.items if item.item_id == item_id), None)
        return ItemForPerson(
            standing=standing,
            known=shown.basis != "popularity",
            had=had,
            k=k,
            listed=None if place is None else place.rank,
            rule=None if place is None else place.rule,
            by_score=_place(free, item_id, alone),
            with_rules=_place(ruled, item_id, alone),
            last=max(alike, key=lambda item: item.rank_by_score, default=None),
            generation=answerer.generation.name,
        )


def _place(long: Recommendations, item_id: str, alone: Recommendations) -> Place:
    """Where an item is on a long list; its score by the list that has nothing else where it is not on it."""
    for item in long.items:
        if item.item_id == item_id:
            return Place(item.rank, item.score, item.parts)
    for item in alone.items:
        return Place(None, item.score, item.parts)
    return Place(None, None, {})


def _history(answerer: Answerer, key: str) -> set[str]:
    record, _ = answerer.person(answerer.present()[1], key)
    rows = [] if record is None else sorted({int(row) for row in record.history})
    return {item.item_id for item in answerer.generation.index.fetch(rows)}
