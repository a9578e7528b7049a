"""Why somebody is not shown an item: what keeps it out, what they had already, or how far behind the others it is."""

from collections.abc import Mapping
from dataclasses import dataclass

from molar_indexes.answerer import Answerer
from molar_indexes.recommender import Recommender
from molar_indexes.standing import ItemStanding, standing_of
from molar_retrieval import limits
from molar_retrieval.privacy.pseudonyms import of_key
from molar_retrieval.ranking.query import LIFT, Query
from molar_retrieval.ranking.results import Answer, Recommendation


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

        def listed(k: int, **more: object) -> Answer:
            query = Query(k=k, explore=False, **more)  # type: ignore[arg-type]
            kind, name = of_key(key)
            user_id, session_id = (name, None) if kind == "user_id" else (None, name)
            return answerer.query(user_id, session_id, query, "popular", None, recommender.now)

        had = item_id in _history(answerer, key)
        seen = "show" if had else "hide"
        shown = listed(k)
        free, ruled = (listed(limits.K, seen=seen, rules=rules) for rules in (False, True))
        alone = listed(1, seen=seen, rules=False, only=(item_id,))
        first = [item for item in free.items if item.rank_by_score <= k]
        alike = [item for item in first if (LIFT in item.parts) == standing.newcomer] or first
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


def _place(long: Answer, item_id: str, alone: Answer) -> Place:
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
