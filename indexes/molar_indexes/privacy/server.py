"""Where a person lies on a Qdrant server: points of theirs in every collection of the shop, older ones included."""

from collections.abc import Sequence
from typing import Any

from qdrant_client import models

from molar_indexes.privacy.known import KnownPerson
from molar_indexes.server.connect import Connection
from molar_indexes.server.published import published
from molar_retrieval.columns import USER_ID
from molar_retrieval.point_ids import point_id
from molar_retrieval.privacy.found import FileFindings
from molar_retrieval.privacy.needles import Match
from molar_retrieval.progress import SILENT


def scan_server(connection: Connection, known: KnownPerson) -> list[FileFindings]:
    """Ask each collection for the person's points, by number and by payload, and whether it has snapshots."""
    return [
        _look(connection, one.name, known)
        for alias in connection.server.aliases
        for one in published(connection, alias)
    ]


def _look(connection: Connection, name: str, known: KnownPerson) -> FileFindings:
    server, client = connection.server, connection.client
    found = FileFindings(f"{server.url}/collections/{name}", "collection")
    points: list[Any] = [point_id(key) for key in known.keys]
    if name.startswith(server.people) or not known.items:
        for record in connection.ask(client.retrieve, name, points, with_payload=True):
            found.add(Match("their point"), f"point {record.id}")
    keys = models.FieldCondition(key=USER_ID, match=models.MatchAny(any=known.keys))
    theirs = models.Filter(must=[keys])
    records, _ = connection.insist(SILENT.note, client.scroll, name, theirs, limit=10, with_payload=False)
    for record in records:
        found.add(Match("their id in a payload"), f"point {record.id}")
    if connection.ask(client.list_snapshots, name):
        found.doubt("it has snapshots, which nobody can look into")
    return found


def remove_points(connection: Connection, keys: Sequence[str]) -> int:
    """Remove the points of people from every collection of users, older ones as well; from how many collections.

    The server keeps their bytes until it optimises the collection, or the collection goes: see `molar index prune`.
    """
    names = [one.name for one in published(connection, connection.server.people)]
    points = models.PointIdsList(points=[point_id(key) for key in keys])
    for name in names:
        connection.ask(connection.client.delete, name, points, wait=True)
    return len(names)
