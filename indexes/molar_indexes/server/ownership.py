"""Whose is what an alias names? A push under another shop's name would take that shop off the air."""

from molar_indexes.server.connect import Connection
from molar_indexes.server.filters import named
from molar_retrieval.errors import DataError
from molar_retrieval.ranking.index_protocol import Index

_SAMPLE = 100


def refuse_other_shop(connection: Connection, live: str, index: Index, count: int) -> None:
    """Refuse to replace the collection ``live`` if it has not one of the ``count`` items of ``index``.

    Asked about are at most a hundred items from all over the catalogue: a shop that exchanges its whole catalogue at
    once has to say so. Raises :class:`DataError`.
    """
    rows = range(0, count, max(1, -(-count // _SAMPLE)))
    ids = [item.item_id for item in index.fetch(rows)]
    if ids and not connection.ask(connection.client.count, live, named(ids), exact=True).count:
        raise DataError(
            f"{live!r}, which is live at {connection.server.name}, has none of {len(ids)} items of this catalogue:"
            " another shop?",
            "give each shop a name of its own, [index] collection; --replace if this one is to take its place",
        )
