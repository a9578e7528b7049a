"""What changes for people between two ways to answer: whose lists, and which items gain and lose places.

Two generations, or one by two sets of rules, are asked for the lists of a sample of people as these are now, by their
history and the events since. New items are not drawn for the places in which they are tried, so that nothing differs by
a draw.

What other rules would change, before they hold: lists of a sample of people, by the rules of now and by others.

Both are asked of one generation, by the events up to now; see :mod:`molar_indexes.comparison`. What rules do not
change, somebody's candidates, is made once for both lists, and kept for the next preview.
"""

import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molar_indexes.answerer import Answerer
from molar_indexes.constraints import Constraints, RulesSource
from molar_indexes.generations import Generation
from molar_indexes.recommender import Recommender
from molar_indexes.users import UserRecord, Users
from molar_retrieval import columns, limits
from molar_retrieval.privacy.pseudonyms import of_key
from molar_retrieval.ranking.filters import Expression, matches
from molar_retrieval.ranking.index_protocol import StoredItem
from molar_retrieval.ranking.query import Query
from molar_retrieval.ranking.rules import RulesConflict, conflicts

if TYPE_CHECKING:
    from molar_retrieval.ranking.ranker import Ranker

_Parts = Mapping[str, Mapping[str, float]]  # addends by item id
LENGTH = 10
"""Places of the lists that are compared."""
HISTORY, STANDINGS = "history", ("new", "occasional", "regular")
"""By how much people have done: the dimension, and its groups in their order."""
NEW, OCCASIONAL = 2, 9
"""Most entries of the histories of the first two groups."""
_VALUES = 8  # groups of a field of people
_AT_ONCE = 50  # people who are ranked together: what is made once for several lists of somebody is kept so long
_TOLD = 20  # items that gain, items that lose, people who are shown
_LOOKED_AT = 50_000  # people


@dataclass(frozen=True)
class PartChange:
    """What a part of the score has done.

    Attributes:
        part: Its name.
        change: By how much it brought items that enter up on those that leave, in the unit of scores, over all people;
            negative: it held them back.
        share: The same as a share of what all parts have done together; these add up to 1.
    """

    part: str
    change: float
    share: float


@dataclass(frozen=True)
class Causes:
    """What made items enter and leave lists.

    Attributes:
        exchanges: Places at which a score decided.
        parts: What each part has done there, the strongest first; empty where nothing was exchanged.
        absent: Items that entered or left a list, counted in each, as the other generation does not have them, or may
            not show them.
        untold: People whose lists differ and of whom one of the two generations knows no history.
    """

    exchanges: int
    parts: tuple[PartChange, ...]
    absent: int
    untold: int


def causes_of(
    old: Recommender, new: Recommender, before: "Mapping[str, ShownList]", after: "Mapping[str, ShownList]"
) -> Causes:
    """What made the difference between lists of the same people, by their keys, of two generations."""
    exchanged: dict[str, tuple[list[str], list[str]]] = {}
    for key, former in before.items():
        left, entered = ([item.item_id for item in one.items] for one in (former, after[key]))
        if set(left) != set(entered):
            exchanged[key] = [i for i in entered if i not in left], [i for i in left if i not in entered]
    wanted = {key: [*entered, *left] for key, (entered, left) in exchanged.items()}
    earlier, later = _parts_of(old, wanted), _parts_of(new, wanted)
    total: dict[str, float] = defaultdict(float)
    exchanges = absent = 0
    known = [key for key in exchanged if key in earlier and key in later]
    for key in known:
        sides = [[i for i in side if i in earlier[key] and i in later[key]] for side in exchanged[key]]
        absent += sum(map(len, exchanged[key])) - sum(map(len, sides))
        size = min(map(len, sides))
        exchanges += size
        for sign, side in zip((1.0, -1.0), sides, strict=True):
            for item in side if size else []:
                for part, change in _changes(earlier[key][item], later[key][item]).items():
                    total[part] += sign * change * size / len(side)
    return Causes(exchanges, _ordered(total), absent, len(exchanged) - len(known))


def _changes(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {part: after.get(part, 0.0) - before.get(part, 0.0) for part in dict.fromkeys([*before, *after])}


def _ordered(total: Mapping[str, float]) -> tuple[PartChange, ...]:
    whole = sum(total.values())
    order = sorted(total, key=lambda part: (-abs(total[part]), part))
    return tuple(PartChange(part, total[part], total[part] / whole if whole else 0.0) for part in order)


def _parts_of(recommender: Recommender, wanted: Mapping[str, Sequence[str]]) -> dict[str, _Parts]:
    """Addends of the scores of items for people of whom the generation knows a history, by key."""
    with recommender.answering() as answerer:
        index, users = answerer.generation.index, answerer.generation.users
        ids = sorted({item for items in wanted.values() for item in items})
        rows = {i: row for i, row in zip(ids, index.rows(ids) if ids else [], strict=True) if row is not None}
        known = [user for key in wanted if (user := users.keyed(key)) is not None]
        own = [[rows[item] for item in wanted[user.user_id] if item in rows] for user in known]
        told = answerer.parts_of(known, own, Query(explore=False), recommender.now)
        names = {row: item for item, row in rows.items()}
        return {
            user.user_id: {names[row]: addends for row, addends in parts.items()}
            for user, parts in zip(known, told, strict=True)
            if parts is not None
        }


@dataclass(frozen=True)
class ShownList:
    """Somebody's list, best first, and what its answer would note of rules that could not be kept."""

    items: Sequence[StoredItem]
    notes: Sequence[str]


@dataclass(frozen=True)
class ExposureChange:
    """An item that more or fewer people see: in how many of the lists it is, before and after."""

    item_id: str
    title: str | None
    before: int
    after: int


@dataclass(frozen=True)
class ChangedList:
    """The ids of somebody's list, before and after; ``person`` is a user id, or of a ``session`` its id."""

    person: str
    session: bool
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class GroupChange:
    """How the lists of some of the people differ: those with one value of what is known of them.

    Attributes:
        dimension: ``history``, or a field of what is kept of people.
        value: ``new``, ``occasional`` or ``regular``, see :func:`standing_by`; or a value of the field.
        people: How many they are.
        changed: Of these, people whose list differs in its items or their order.
        exchanged: Share of places whose item is nowhere in the other list of the same person.
    """

    dimension: str
    value: str
    people: int
    changed: int
    exchanged: float


@dataclass(frozen=True)
class ListComparison:
    """Lists of the same people, before and after.

    Attributes:
        people: Whose lists were compared.
        changed: Of these, people whose list differs in its items or their order.
        exchanged: Share of places whose item is nowhere in the other list of the same person.
        moved: Share of places that have another item than before.
        gained: Items that more people see, those that gained most first; at most 20.
        lost: Items that fewer people see, likewise.
        examples: The people whose lists changed most; at most 20.
        groups: The same by what is known of people; empty where it was not asked for.
        causes: Which part of the score did it; None: it was not asked for.
    """

    people: int
    changed: int
    exchanged: float
    moved: float
    gained: tuple[ExposureChange, ...]
    lost: tuple[ExposureChange, ...]
    examples: tuple[ChangedList, ...]
    groups: tuple[GroupChange, ...] = ()
    causes: Causes | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def sample(users: Users, people: int) -> list[str]:
    """Keys of some users, spread evenly over all of them in their order; the same ones again.

    RequestError if ``people`` is not from 1 to ``bounds.COMPARED_PEOPLE``.
    """
    limits.whole("users", people, limits.COMPARED_PEOPLE)
    count = len(users)
    places = [place * count // people for place in range(people)] if count > people else range(count)
    return [users.between(place, place + 1)[0].user_id for place in places]


class Compared:
    """What comparisons of people's lists leave for the next one of the same people, as long as the same items answer.

    For one comparison at a time.
    """

    def __init__(self) -> None:
        self._ranker: Callable[[], Ranker | None] = lambda: None
        self._people: dict[str, UserRecord | None] = {}

    def person(self, answerer: Answerer, key: str) -> UserRecord | None:
        """Who has a key among the users of the answerer; the same object again as long as the same items answer."""
        if self._ranker() is not answerer.ranker:
            self._ranker, self._people = weakref.ref(answerer.ranker), {}
        if key not in self._people:
            if len(self._people) >= limits.COMPARED_PEOPLE:
                self._people = {}
            self._people[key] = answerer.generation.users.keyed(key)
        return self._people[key]


def lists_of(recommender: Recommender, keys: Sequence[str]) -> dict[str, ShownList]:
    """The list of each of these people by key, without draws; popular items for who has no history."""
    with recommender.answering() as answerer:
        (found,) = lists_by([answerer], keys, recommender.now, Compared())
    return found


def lists_by(
    answerers: Sequence[Answerer], keys: Sequence[str], now: datetime | None, known: Compared
) -> list[dict[str, ShownList]]:
    """The same by several answerers of one generation, which differ in their rules; what they share is made once."""
    first, constraints = answerers[0], [one.present()[0] for one in answerers]
    found: list[dict[str, ShownList]] = [{} for _ in answerers]
    query = Query(k=LENGTH, explore=False)
    for begin in range(0, len(keys), _AT_ONCE):
        people = [known.person(first, key) for key in keys[begin : begin + _AT_ONCE]]
        users = [one for one in people if one is not None]
        for user, listings in zip(users, first.rank_by(constraints, users, query, now), strict=True):
            for lists, listing in zip(found, listings, strict=True):
                items = first.ranker.stored([place.row for place in listing.places])
                lists[user.user_id] = ShownList(items, listing.notes)
    return [
        {key: lists[key] if key in lists and lists[key].items else _asked(answerer, key, query, now) for key in keys}
        for answerer, lists in zip(answerers, found, strict=True)
    ]


def _asked(answerer: Answerer, key: str, query: Query, now: datetime | None) -> ShownList:
    """The list of somebody whom the generation does not know, or not any more."""
    who, name = of_key(key)
    user, session = (name, None) if who == "user_id" else (None, name)
    answer = answerer.query(user, session, query, "popular", None, now)
    return ShownList([StoredItem(-1, item.item_id, item.payload) for item in answer.items], answer.notes)


def compared(before: Mapping[str, ShownList], after: Mapping[str, ShownList]) -> ListComparison:
    """How lists of the same people differ; at least one person."""
    exposure: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    titles: dict[str, str | None] = {}
    changes: list[tuple[int, ChangedList]] = []
    exchanged = moved = places = changed = 0
    for key, answers in ((key, (before[key], after[key])) for key in before):
        for counts, answer in zip(exposure, answers, strict=True):
            counts.update(item.item_id for item in answer.items)
            titles |= {item.item_id: item.payload.get(columns.TITLE) for item in answer.items}
        former, now = ([item.item_id for item in answer.items] for answer in answers)
        places += (size := max(len(former), len(now)))
        exchanged += (fresh := size - len(set(former) & set(now)))
        moved += size - sum(a == b for a, b in zip(former, now, strict=False))
        if former != now:
            changed += 1
            who, name = of_key(key)
            changes.append((fresh, ChangedList(name, who == "session_id", tuple(former), tuple(now))))
    gains = {item: exposure[1][item] - exposure[0][item] for item in titles}
    return ListComparison(
        people=len(before),
        changed=changed,
        exchanged=exchanged / max(places, 1),
        moved=moved / max(places, 1),
        gained=_most(gains, lambda gain: gain, exposure, titles),
        lost=_most(gains, lambda gain: -gain, exposure, titles),
        examples=tuple(one for _, one in sorted(changes, key=lambda pair: -pair[0])[:_TOLD]),
    )


def standing_by(history: int) -> str:
    """What somebody is called by the length of a history: ``new`` up to 2, ``occasional`` up to 9, else ``regular``."""
    return "new" if history <= NEW else "occasional" if history <= OCCASIONAL else "regular"


def groups_of(person: UserRecord | None) -> dict[str, str]:
    """The group of somebody in each dimension; who is not known has no history."""
    if person is None:
        return {HISTORY: standing_by(0)}
    told = {name: str(value) for name, value in person.attributes.items() if isinstance(value, str | bool | int)}
    return {HISTORY: standing_by(len(person.history)), **told}


def by_group(
    groups: Mapping[str, Mapping[str, str]], before: Mapping[str, ShownList], after: Mapping[str, ShownList]
) -> tuple[GroupChange, ...]:
    """How lists differ in each group, of ``groups`` by the key of people; of a field the eight most frequent values."""
    members: dict[str, dict[str, list[str]]] = {}
    for key in before:
        for dimension, value in groups[key].items():
            members.setdefault(dimension, {}).setdefault(value, []).append(key)
    found = []
    for dimension, values in members.items():
        order = sorted(values, key=lambda value: (-len(values[value]), value))[:_VALUES]
        for value in sorted(order, key=STANDINGS.index) if dimension == HISTORY else order:
            own = compared(*({key: lists[key] for key in values[value]} for lists in (before, after)))
            found.append(GroupChange(dimension, value, own.people, own.changed, own.exchanged))
    return tuple(found)


def generations_compared(workspace: Path, before: str, after: str, people: int) -> ListComparison:
    """What changes for a sample of people if ``after`` answers instead of ``before``, by the workspace's own index.

    The people are those whom the generation knows that knows more of them. Both answer by the rules of now.

    Raises:
        RequestError: If too many people are asked for.
        MissingArtefactError: If there is no such generation.
        StaleArtefactError: If one of them is damaged.
    """
    with Recommender.open(workspace, before) as old, Recommender.open(workspace, after) as new:
        old.now = new.now = datetime.now(UTC)
        users = max((new.generation.users, old.generation.users), key=len)
        keys = sample(users, people)
        lists = lists_of(old, keys), lists_of(new, keys)
        groups = {key: groups_of(users.keyed(key)) for key in keys}
        return replace(compared(*lists), groups=by_group(groups, *lists), causes=causes_of(old, new, *lists))


def _most(
    gains: Mapping[str, int],
    by: Callable[[int], int],
    exposure: tuple[Counter[str], Counter[str]],
    titles: Mapping[str, str | None],
) -> tuple[ExposureChange, ...]:
    order = sorted((item for item in gains if by(gains[item]) > 0), key=lambda item: (-by(gains[item]), item))
    return tuple(ExposureChange(item, titles[item], exposure[0][item], exposure[1][item]) for item in order[:_TOLD])


@dataclass(frozen=True)
class FieldExposure:
    """A value of a field, and the share of all places that items with it have, before and after."""

    value: str
    before: float
    after: float


@dataclass(frozen=True)
class RulesPreview:
    """What rules would change.

    Attributes:
        lists: How the lists differ.
        short: Lists that would be shorter than they are.
        exposure: By the values of a field, those that change most first; at most 20. Empty where none was named.
        notes: What answers would say of rules that they cannot keep, with how many do.
        warnings: What is odd about the rules, in sentences.
    """

    lists: ListComparison
    short: int
    exposure: tuple[FieldExposure, ...]
    notes: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...]


def checked(generation: Generation, values: Mapping[str, Any]) -> tuple[str, ...]:
    """What is odd about rules, as a file would hold them, in sentences; a SettingsError where they are wrong."""
    return tuple(one.sentence for one in conflicts_of(generation, Constraints(generation, values)))


def previewed(
    answerer: Answerer,
    present: RulesSource | None,
    values: Mapping[str, Any],
    *,
    people: int,
    users: Sequence[str] = (),
    field: str | None = None,
    known: Compared | None = None,
) -> RulesPreview:
    """What rules would change in people's lists.

    Args:
        answerer: What answers now; whether by rules, does not matter.
        present: The rules that hold now; None: there are none.
        values: What a file of other rules would hold.
        people: Of how many people lists are compared.
        users: These people instead.
        field: A field of the items by whose values exposure is told.
        known: What former previews have left, and this one leaves; None: nothing.

    Raises:
        RequestError: If there is no such field, or too many people are asked for.
        SettingsError: If the rules are wrong, those of now or the others.
    """
    old, new = answerer.ruled_by(present), answerer.ruled_by(values)
    constraints = new.present()[0]
    warnings = tuple(one.sentence for one in conflicts_of(answerer.generation, constraints))
    if field is not None:
        constraints.check_field(field)
    keys = [answerer.key(user) for user in users] or sample(answerer.generation.users, people)
    before, after = lists_by([old, new], keys, datetime.now(UTC), Compared() if known is None else known)
    said = Counter(note for answer in after.values() for note in answer.notes)
    said.subtract(note for answer in before.values() for note in answer.notes)
    return RulesPreview(
        lists=compared(before, after),
        short=sum(len(after[key].items) < len(before[key].items) for key in keys),
        exposure=() if field is None else _exposure(field, list(before.values()), list(after.values())),
        notes=tuple((note, count) for note, count in said.most_common(_TOLD) if count > 0),
        warnings=warnings,
    )


def _exposure(field: str, before: Sequence[ShownList], after: Sequence[ShownList]) -> tuple[FieldExposure, ...]:
    shares = [_shares(field, before), _shares(field, after)]
    found = [FieldExposure(value, *(share.get(value, 0.0) for share in shares)) for value in {**shares[0], **shares[1]}]
    return tuple(sorted(found, key=lambda one: (-abs(one.after - one.before), one.value))[:_TOLD])


def _shares(field: str, answers: Sequence[ShownList]) -> dict[str, float]:
    """The share of places by value; an item with several values counts for each."""
    counts, places = Counter[str](), 0
    for item in (item for answer in answers for item in answer.items):
        value = item.item_id if field == columns.ITEM_ID else item.payload.get(field)
        counts.update({str(one) for one in (value if isinstance(value, list) else [value]) if one is not None})
        places += 1
    return {value: count / places for value, count in counts.items()}


def conflicts_of(generation: Generation, constraints: Constraints) -> list[RulesConflict]:
    """What gets in the way of rules, by the items and people of a generation; SettingsError if the rules are wrong."""
    rules, index = constraints.rules, generation.index
    if rules is None:
        return []

    def items(ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        rows = [row for row in index.rows(list(ids)) if row is not None]
        return {item.item_id: {columns.ITEM_ID: item.item_id, **item.payload} for item in index.fetch(rows)}

    def fits(condition: Expression) -> bool:
        dims = index.spec.dims
        spaces = [name for name in (columns.ALIGNED, columns.COLD_START) if name in dims]
        return any(index.top(name, [0.0] * dims[name], 1, where=condition) for name in spaces)

    return conflicts(rules, items, fits, lambda segment: _somebody(generation, segment))


_people: weakref.WeakKeyDictionary[Users, list[Mapping[str, Any]]] = weakref.WeakKeyDictionary()
"""What people's attributes are, each once, by the users of a generation."""


def _somebody(generation: Generation, segment: Expression) -> bool:
    """Whether the generation knows people of a segment; of more people than are looked at, nobody is missed."""
    if len(generation.users) > _LOOKED_AT:
        return True
    if generation.users not in _people:
        some = {repr(one.attributes): one.attributes for batch in generation.users.batches() for one in batch}
        _people[generation.users] = list(some.values())
    return any(matches(segment, attributes) for attributes in _people[generation.users])
