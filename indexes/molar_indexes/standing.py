"""How items and people stand: what the next answer knows of them, and what keeps an item out of lists."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from molar_indexes.constraints import Constraints
from molar_indexes.generations import KIND, USERS
from molar_indexes.live_items import LiveItems
from molar_indexes.recommender import Recommender
from molar_indexes.users import UserStore
from molar_retrieval import columns
from molar_retrieval.data.availability import ALWAYS, iso, moment
from molar_retrieval.data.event_parsing import EVENT_TYPES
from molar_retrieval.data.live_events import EventLogReader
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, of_key, session_key, user_key
from molar_retrieval.privacy.suppression import NEVER, SuppressionList
from molar_retrieval.workspace.artefacts import Workspace

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
        newcomer: Whether it has no interactions in the generation, so that it has cold-start items' places.
        generation: Which has it.
        events: The last event that is known, by its number.
    """

    item_id: str
    attributes: Mapping[str, Any]
    obstacles: tuple[Obstacle, ...]
    newcomer: bool
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
