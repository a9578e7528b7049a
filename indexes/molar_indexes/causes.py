"""Which part of the score did it: what made items enter and leave lists between two generations.

Scores are sums, so what happened to somebody's list is one as well. An item that enters passes one that leaves: before,
the one that leaves had the higher score or the same, afterwards the other one. How far the one came up on the other is
the sum of how far it did by each part. Over all people who are compared, these sums tell what each part has done. What
moves all items of somebody alike, such as another scale, moves nobody past anybody, and counts for nothing here.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molar_retrieval.ranking.query import Query

if TYPE_CHECKING:
    from molar_indexes.comparison import ShownList
    from molar_indexes.recommender import Recommender

_Parts = Mapping[str, Mapping[str, float]]  # addends by item id


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
    old: "Recommender", new: "Recommender", before: "Mapping[str, ShownList]", after: "Mapping[str, ShownList]"
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


def _parts_of(recommender: "Recommender", wanted: Mapping[str, Sequence[str]]) -> dict[str, _Parts]:
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
