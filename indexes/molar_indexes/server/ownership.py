"""Whose is what an alias names? A push under another shop's name would take that shop off the air."""

from typing import Any

from qdrant_client import QdrantClient, models

from molar_indexes.server.config import ServerConfig
from molar_indexes.server.faults import asking
from molar_retrieval.errors import DataError
from molar_retrieval.index import Index
from molar_retrieval.point_ids import point_id

_SAMPLE = 100


def refuse_other_shop(client: QdrantClient, server: ServerConfig, live: str, index: Index, count: int) -> None:
    """Refuse to replace a collection that has not one of our items.

    Asked about are at most a hundred items from all over the catalogue: a shop that exchanges its whole catalogue at
    once has to say so.

    Args:
        client: Connected.
        server: Who that is.
        live: The collection that would be replaced.
        index: Of the generation that would replace it.
        count: How many items it has.

    Raises:
        DataError: If it has none of them.
    """
    rows = range(0, count, max(1, -(-count // _SAMPLE)))
    ids: list[Any] = [point_id(item.item_id) for item in index.fetch(rows)]
    own = models.Filter(must=[models.HasIdCondition(has_id=ids)])
    with asking(server):
        shared = client.count(live, own, exact=True).count if ids else 0
    if ids and not shared:
        raise DataError(
            f"{live!r}, which is live at {server.name}, has none of {len(ids)} items of this catalogue: another shop?",
            "give each shop a name of its own, [index] collection; --replace if this one is to take its place",
        )
