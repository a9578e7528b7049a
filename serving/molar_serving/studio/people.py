"""What the studio shows of somebody: their history, their list, what it would be by another history, and why."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlencode

from molar_indexes.inspection import (
    HistoryWeight,
    PersonStanding,
    ScoreOrigins,
    Supposition,
    list_if,
    origins_of,
    person_of,
    titles_of,
)
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, StoredName, is_pseudonym, of_key, session_key, user_key
from molar_retrieval.ranking.query import Query

if TYPE_CHECKING:
    from molar_indexes.recommender import Recommender
    from molar_retrieval.ranking.results import Recommendation, Recommendations
    from molar_retrieval.workspace.artefacts import Workspace

PLACES = 10
"""Of the list."""
_RECENT, _LINES = 24, 2_000  # people who are named, among so many of the last lines of the log
_HISTORY = 40  # of which so many are shown at first, the latest
_TOLD, _LEAST = 12, 0.005  # items of the history in a waterfall, none that does less
Mark = Literal["same", "new", "up", "down"]


@dataclass(frozen=True)
class Somebody:
    """A user or somebody anonymous, by what the workspace calls them."""

    name: StoredName
    anonymous: bool = False

    @classmethod
    def asked(cls, id_: str, names: Pseudonymiser, *, anonymous: bool = False) -> "Somebody":
        """Who has an id, as somebody may type it."""
        return cls(names.session(id_) if anonymous else names.user(id_), anonymous)

    @property
    def key(self) -> str:
        """As histories are stored."""
        return session_key(self.name) if self.anonymous else user_key(self.name)

    @property
    def pseudonymous(self) -> bool:
        """Whether the name is a pseudonym."""
        return is_pseudonym(self.name)

    @classmethod
    def of_key(cls, key: str) -> "Somebody":
        """Who has a key."""
        kind, name = of_key(key)
        return cls(name, kind == "session_id")

    def address(self, screen: str = "people", parameters: Iterable[tuple[str, str]] = ()) -> str:
        """Of one of their screens."""
        found = [*([("anonymous", "1")] if self.anonymous else []), *parameters]
        path = f"/studio/{screen}/{quote(self.name.encode('utf-8', 'surrogatepass'), safe='')}"
        return path + (f"?{urlencode(found, errors='surrogatepass')}" if found else "")


@dataclass(frozen=True)
class Asked:
    """Whose list, and what is supposed of their history."""

    person: Somebody
    without: tuple[str, ...] = ()
    taking: tuple[str, ...] = ()

    @property
    def supposed(self) -> Supposition:
        """For the library."""
        return Supposition(self.without, self.taking)

    @property
    def supposes(self) -> bool:
        """Whether it is another history than theirs."""
        return bool(self.without or self.taking)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """What is supposed, in an address."""
        return [*(("without", one) for one in self.without), *(("with", one) for one in self.taking)]

    @property
    def address(self) -> str:
        """Of the page."""
        return self.person.address("people", self.parameters)

    @property
    def with_all(self) -> str:
        """Of the page with all of a long history."""
        return self.person.address("people", [("all", "1"), *self.parameters])

    def leaving(self, item_id: str) -> "Asked":
        """The same without an item of the history."""
        return replace(self, without=tuple(dict.fromkeys((*self.without, item_id))))

    def keeping(self, item_id: str) -> "Asked":
        """The same with an item that was left out."""
        return replace(self, without=tuple(one for one in self.without if one != item_id))

    def buying(self, item_id: str) -> "Asked":
        """The same with an item that they would take next."""
        return replace(self, taking=tuple(dict.fromkeys((*self.taking, item_id))))

    def not_buying(self, item_id: str) -> "Asked":
        """The same without one of these."""
        return replace(self, taking=tuple(one for one in self.taking if one != item_id))

    def why(self, item_id: str) -> str:
        """The address of what an item's score is made of."""
        return self.person.address("why", [("item", item_id), *self.parameters])


@dataclass(frozen=True)
class SeenPerson:
    """Somebody in the last events: who, what they did, with which item, when (ISO 8601)."""

    person: Somebody
    event: str
    item_id: str | None
    time: str


@dataclass(frozen=True)
class HistoryEntry:
    """An item of a history, with the time in seconds since 1970, or 0; ``gone``: it is supposed not to be there."""

    item_id: str
    time: int
    gone: bool


@dataclass(frozen=True)
class ListedItem:
    """An item of a list, how it stands against the list of now, and its place there; None: it is not in it."""

    item: "Recommendation"
    mark: Mark
    before: int | None


@dataclass(frozen=True)
class PersonPage:
    """What the page of somebody shows.

    Attributes:
        asked: Whose, and what is supposed.
        standing: As the next answer reads them.
        history: The latest first.
        answer: The list.
        listed: Its items.
        gone: Items of the list of now that are not in it.
        titles: Of items, by id.
        other: The same id as an anonymous one, or the other way round, where that is somebody; None: it is nobody.
    """

    asked: Asked
    standing: PersonStanding
    history: tuple[HistoryEntry, ...]
    answer: "Recommendations"
    listed: tuple[ListedItem, ...]
    gone: "tuple[Recommendation, ...]"
    titles: Mapping[str, str | None]
    other: Somebody | None

    def count(self, mark: Mark) -> int:
        """How many items of the list stand so against the list of now."""
        return sum(one.mark == mark for one in self.listed)


def seen_lately(workspace: "Workspace") -> list[SeenPerson]:
    """Who is in the last events, the latest first, each with the last thing that they did."""
    with opened(workspace) as state:
        if state is None:
            return []
        columns = ["user_id", "session_id", "event", ITEM_ID, "timestamp"]
        lines = state.newest(_LINES).select(columns).to_pylist()
    found: dict[Somebody, SeenPerson] = {}
    for line in reversed(lines):
        name = line["user_id"] if line["user_id"] is not None else line["session_id"]
        if name is None or len(found) == _RECENT:
            continue
        person = Somebody(name, line["user_id"] is None)
        found.setdefault(person, SeenPerson(person, line["event"], line[ITEM_ID], line["timestamp"].isoformat()))
    return list(found.values())


def some_people(recommender: "Recommender", most: int = 12) -> list[Somebody]:
    """Some people of the generation, spread over all of them."""
    with recommender.answering() as answerer:
        users = answerer.generation.users
        places = sorted({place * len(users) // most for place in range(most)}) if len(users) else []
        return [Somebody.of_key(one.user_id) for place in places for one in users.between(place, place + 1)]


def person_page(
    recommender: "Recommender", asked: Asked, turned: Somebody, language: str, *, every: bool = False
) -> PersonPage:
    """What the page of somebody shows; ``turned``: of the same id and the other kind, ``every``: all of a long history.

    A MolarError where nothing answers, an item that they would take is unknown, or the rules are wrong.
    """
    key, query = asked.person.key, Query(k=PLACES, explain=True, language=language)
    standing = person_of(recommender, key)
    now = list_if(recommender, key, Supposition(), query)
    answer = list_if(recommender, key, asked.supposed, query) if asked.supposes else now
    past = standing.history[::-1] if every else standing.history[::-1][:_HISTORY]
    left_out = [one for one in standing.history if one[0] in asked.without and one not in past]
    history = [HistoryEntry(item, time, item in asked.without) for item, time in (*past, *left_out)]
    listed, gone = marked(now, answer)
    other = None
    if not standing.history:
        other = turned if person_of(recommender, turned.key).history else None
    titles = titles_of(recommender, [*(one.item_id for one in history), *asked.without, *asked.taking])
    return PersonPage(asked, standing, tuple(history), answer, listed, gone, titles, other)


def marked(
    now: "Recommendations", then: "Recommendations"
) -> "tuple[tuple[ListedItem, ...], tuple[Recommendation, ...]]":
    """The items of a list against the list of now, and those of the latter that are not in it."""
    places = {item.item_id: item.rank for item in now.items}
    listed = []
    for item in then.items:
        before = places.pop(item.item_id, None)
        mark: Mark = "new" if before is None else "same" if before == item.rank else _moved(before, item.rank)
        listed.append(ListedItem(item, mark, before))
    return tuple(listed), tuple(item for item in now.items if item.item_id in places)


def _moved(before: int, rank: int) -> Mark:
    return "up" if rank < before else "down"


@dataclass(frozen=True)
class WaterfallStep:
    """A step of a waterfall: an addend, and where its bar begins and how long it is, of 100."""

    name: str
    amount: float
    start: float
    width: float


@dataclass(frozen=True)
class Why:
    """What the score of an item is made of.

    Attributes:
        asked: Whose.
        item_id: The item.
        title: Its title.
        listed: Its place, rule, reasons; None where it is not in the list.
        score: The sum of the steps.
        steps: The parts of the score.
        counting: The part of it that is counted for each item of the history by itself, exactly.
        history: What items of the history do, those that do most first.
        steps_of_history: A bar for each of these.
        others: How many more of the history were looked at, and do less.
        left_out: How many were not looked at.
        untold: Of ``counting``, what is of items that are not told, and of those that were had by few people.
        titles: Of items, by id.
    """

    asked: Asked
    item_id: str
    title: str | None
    listed: "Recommendation | None"
    score: float
    steps: tuple[WaterfallStep, ...]
    counting: float
    history: tuple[HistoryWeight, ...]
    steps_of_history: tuple[WaterfallStep, ...]
    others: int
    left_out: int
    untold: float
    titles: Mapping[str, str | None]


def why(recommender: "Recommender", asked: Asked, item_id: str, language: str) -> Why | None:
    """What the score of an item is made of; None where there is no history, or no such item."""
    key = asked.person.key
    found = origins_of(recommender, key, [item_id], asked.supposed)
    if not found:
        return None
    (origins,) = found
    answer = list_if(recommender, key, asked.supposed, Query(k=PLACES, explain=True, language=language))
    listed = next((item for item in answer.items if item.item_id == item_id), None)
    parts = origins.parts if listed is None else listed.parts
    told = [one for one in sorted(origins.history, key=lambda one: -abs(one.total)) if abs(one.total) >= _LEAST][:_TOLD]
    titles = titles_of(recommender, [item_id, *(one.item_id for one in told)])
    counting = _counting(recommender, origins)
    return Why(
        asked,
        item_id,
        titles.get(item_id),
        listed,
        sum(parts.values()),
        waterfall({name: amount for name, amount in parts.items() if amount}),
        counting,
        tuple(told),
        _from_zero({one.item_id: one.total for one in told}),
        len(origins.history) - len(told),
        origins.left_out,
        counting - sum(one.addend for one in told if one.addend is not None),
        titles,
    )


def _counting(recommender: "Recommender", origins: ScoreOrigins) -> float:
    return sum(origins.parts.get(name, 0.0) for name in recommender.ranker.store.sparse_parts)


def waterfall(amounts: Mapping[str, float]) -> tuple[WaterfallStep, ...]:
    """Addends as steps, each of which begins where the one before it ends."""
    ends = [0.0]
    for amount in amounts.values():
        ends.append(ends[-1] + amount)
    return _scaled(amounts, [(min(pair), max(pair)) for pair in itertools.pairwise(ends)])


def _from_zero(amounts: Mapping[str, float]) -> tuple[WaterfallStep, ...]:
    return _scaled(amounts, [(min(0.0, amount), max(0.0, amount)) for amount in amounts.values()])


def _scaled(amounts: Mapping[str, float], spans: Sequence[tuple[float, float]]) -> tuple[WaterfallStep, ...]:
    low = min((0.0, *(begin for begin, _ in spans)))
    size = max((0.0, *(end for _, end in spans))) - low or 1.0
    return tuple(
        WaterfallStep(
            name, amount, round(100 * (begin - low) / size, 2), max(0.4, round(100 * (end - begin) / size, 2))
        )
        for (name, amount), (begin, end) in zip(amounts.items(), spans, strict=True)
    )
