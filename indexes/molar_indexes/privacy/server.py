"""Where a person lies on a Qdrant server: points of theirs in every collection of the shop, older ones included."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qdrant_client import models

from molar_indexes.privacy.stored import KnownPerson
from molar_indexes.server.client import Connection
from molar_indexes.server.collections import PublishedCollection, published
from molar_indexes.server.points import ROW, users_between
from molar_retrieval.columns import USER_ID
from molar_retrieval.privacy.id_scan import FileMatches, Hit
from molar_retrieval.progress import SILENT
from molar_retrieval.ranking.index_protocol import point_id


def scan_server(connection: Connection, known: KnownPerson) -> list[FileMatches]:
    """Ask each collection for the person's points, by number and by payload, and whether it has snapshots."""
    return [
        _look(connection, one.name, known)
        for alias in connection.server.aliases
        for one in published(connection, alias)
    ]


def _look(connection: Connection, name: str, known: KnownPerson) -> FileMatches:
    server, client = connection.server, connection.client
    found = FileMatches(f"{server.nodes[0].url}/collections/{name}", "collection")
    points: list[Any] = [point_id(key) for key in known.keys]
    if name.startswith(server.people) or not known.items:
        for record in connection.ask(client.retrieve, name, points, with_payload=True):
            found.add(Hit("their point"), f"point {record.id}")
    keys = models.FieldCondition(key=USER_ID, match=models.MatchAny(any=known.keys))
    theirs = models.Filter(must=[keys])
    records, _ = connection.insist(SILENT.note, client.scroll, name, theirs, limit=10, with_payload=False)
    for record in records:
        found.add(Hit("their id in a payload"), f"point {record.id}")
    if connection.ask(client.list_snapshots, name):
        found.doubt("it has snapshots, which nobody can look into")
    return found


def remove_points(connection: Connection, keys: Sequence[str]) -> int:
    """Remove people from every collection of users, older ones as well; how many points. May be killed anywhere.

    The numbers of the others go on without a gap: the last one takes the place of who goes. What a push has not
    finished goes as a whole, and is sent anew. The server keeps the bytes of a point until it optimises the
    collection, or the collection goes: see `molar index prune`.
    """
    points: list[Any] = [point_id(key) for key in keys]
    return sum(_without(connection, one, points) for one in published(connection, connection.server.people))


def _without(connection: Connection, one: PublishedCollection, points: list[Any]) -> int:
    ask, client, name, left = connection.ask, connection.client, one.name, one.metadata.count
    gone = ask(client.retrieve, name, points, with_payload=True)
    if not one.metadata.whole:
        if gone:
            ask(client.delete_collection, name)
        return len(gone)
    for record in sorted(gone, key=_row, reverse=True):
        left -= 1
        last, _ = ask(client.scroll, name, users_between(left, left + 1), limit=1, with_payload=False)
        if last and last[0].id != record.id:  # else this is the last one, or its place was taken before a kill
            ask(client.set_payload, name, {ROW: _row(record)}, points=[last[0].id], wait=True)
        ask(client.delete, name, models.PointIdsList(points=[record.id]), wait=True)
    count = ask(client.count, name, exact=True).count
    if count != one.metadata.count:
        metadata = replace(one.metadata, count=count).as_metadata()
        ask(client.update_collection, name, metadata=metadata)
    return len(gone)


def _row(record: models.Record) -> int:
    return int((record.payload or {})[ROW])
