"""What somebody's list would be if their history were another one, and what each item of it does for a score.

Nothing is written: the history is read, some of its items are left out or others put at its end, with the times that
the rest has, and the list is made as any other, by the second stage and the rules.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from molar_indexes.answerer import Answerer
from molar_indexes.recommender import Recommender
from molar_indexes.users import UserRecord
from molar_retrieval.data.availability import moment
from molar_retrieval.ranking.explanations import ANONYMITY
from molar_retrieval.ranking.query import Query, check_subjects
from molar_retrieval.ranking.results import Answer

if TYPE_CHECKING:
    from molar_retrieval.ranking.item_store import ItemStore
    from molar_retrieval.workspace.tensors import Array, Rows

LATEST = 50
"""Of the different items of a history so many, the latest, are looked at one by one; of long histories fewer."""
_READ, _FEWEST = 25_000, 10  # entries of histories that are read, in all; items that are looked at all the same


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
            check_subjects(items=list(names))


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


def list_if(recommender: Recommender, key: str, supposed: Supposition, query: Query) -> Answer:
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
