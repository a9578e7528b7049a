"""Reasons for the items of a list: evidence from the generation, sentences from templates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from molar_indexes.generations import Generation
from molar_retrieval import columns
from molar_retrieval.index import StoredItem
from molar_retrieval.ranking.evidence import gather
from molar_retrieval.ranking.ranker import Asker, Placed
from molar_retrieval.ranking.sentences import Speaker, shared_values

_COMPARED = 2
"""So many items of the history are named, and their attributes compared."""


@dataclass(frozen=True)
class Explained:
    """Why one item is in a list.

    Attributes:
        sentence: In words.
        evidence: ``history``: items that carried it, with their amounts of the score; ``shared``: attributes in common
            with them; ``content``: the content parts' score by source; JSON-able.
    """

    sentence: str
    evidence: dict[str, Any]


def explain(generation: Generation, asker: Asker, places: Sequence[Placed], speaker: Speaker) -> list[Explained]:
    """The reasons for each item of a list."""
    rows = [placed.item.row for placed in places]
    found = gather(generation.table, generation.origins, asker.vector, asker.sparse, asker.history, rows)
    named = {row for evidence in found for row, _ in evidence.history}
    had = {item.row: item for item in generation.index.fetch(sorted(named))}
    fields = [name for name, kind in generation.spec.fields.items() if kind == "keyword" and name != columns.TITLE]
    titles = {row: _title(item) for row, item in had.items()}
    explained = []
    for placed, evidence in zip(places, found, strict=True):
        history = evidence.history
        others = [had[row].payload for row, _ in history[:_COMPARED]]
        shared = shared_values(placed.item.payload, others, fields, generation.origins.ordinary)
        sentence = speaker.say(evidence, placed.parts, titles, shared, placed.causes)
        items = [{"item_id": had[row].item_id, "title": titles[row], "amount": amount} for row, amount in history]
        explained.append(Explained(sentence, {"history": items, "shared": shared, "content": dict(evidence.sources)}))
    return explained


def _title(item: StoredItem) -> str:
    return str(item.payload.get(columns.TITLE) or item.item_id)
