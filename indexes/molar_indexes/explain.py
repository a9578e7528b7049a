"""Reasons for the items of a list: evidence from the generation, sentences from templates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

from molar_indexes.item_store import OpenItemStore
from molar_retrieval import columns
from molar_retrieval.ranking.explanations import Speaker, attributions, traits
from molar_retrieval.ranking.query import ResolvedQuery, ScoredItem
from molar_retrieval.ranking.ranker import Ranker

_COMPARED = 2  # so many items of the history are named, and their attributes compared
_REMEMBERED = 16_384  # items whose attributes are kept in memory, at most
_traits: "WeakKeyDictionary[Ranker, dict[int, dict[tuple[str, str], None]]]" = WeakKeyDictionary()
"""Those worth telling, by item row, as a ranker's index has them, which does not change."""


@dataclass(frozen=True)
class Explained:
    """Why one item is in a list, in words and as JSON-able evidence.

    The evidence has ``history``, items that carried it with their amounts of the score, ``shared``, attributes in
    common with them, ``content``, the content parts' score by source, and where they had the item before, ``taken``, on
    how many days (``times``) and how many ``days`` were between two of them on average.
    """

    sentence: str
    evidence: dict[str, Any]


def explain(
    table: OpenItemStore, ranker: Ranker, request: ResolvedQuery, places: Sequence[ScoredItem], speaker: Speaker
) -> list[Explained]:
    """The reasons for each item of a list, by the ``table`` of its generation."""
    origins = table.origins
    user, rows = request.user, [placed.row for placed in places]
    assert user is not None
    found = attributions(ranker.store, origins, user.vector, user.sparse, user.history, rows, user.times)
    named = sorted({row for evidence in found for row, _ in (*evidence.together, *evidence.alike)})
    had, shown = dict(zip(named, ranker.stored(named), strict=True)), ranker.stored(rows)
    kinds = ranker.index.spec.fields
    untold = {columns.TITLE, *table.availability.roles}  # from when an item is on sale is nothing to like it for
    fields = [name for name, kind in kinds.items() if kind == "keyword" and name not in untold]
    titles = {row: str(item.payload.get(columns.TITLE) or item.item_id) for row, item in had.items()}
    known = _traits.setdefault(ranker, {})
    if len(known) > _REMEMBERED:
        known = _traits[ranker] = {}  # other threads go on with theirs
    for row, item in chain(had.items(), zip(rows, shown, strict=True)):
        if row not in known:
            known[row] = traits(item.payload, fields, origins.ordinary)
    explained = []
    for placed, evidence in zip(places, found, strict=True):
        history = evidence.history
        others = [known[row] for row, _ in history[:_COMPARED]]
        own = list(known[placed.row]) if others else []
        for other in others:
            own = [trait for trait in own if trait in other]
        shared = list(dict.fromkeys(word for _, word in own))
        sentence = speaker.say(evidence, placed.parts, titles, shared, placed.causes)
        items = [{"item_id": had[row].item_id, "title": titles[row], "amount": amount} for row, amount in history]
        told = {"history": items, "shared": shared, "content": dict(evidence.sources)}
        taken = {} if evidence.taken is None else {"taken": asdict(evidence.taken)}
        explained.append(Explained(sentence, told | taken))
    return explained
