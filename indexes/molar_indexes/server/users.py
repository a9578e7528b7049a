"""Users of a generation in a collection of their own: vectors, history with its times and attributes of each.

Nobody searches among them; they are asked for by id. Histories are item rows of the same generation.
"""

from base64 import b64decode, b64encode
from typing import Any

from qdrant_client import models

from molar_indexes.server.connect import Connection
from molar_indexes.server.filters import ROW, ROW_PATH, users_between
from molar_indexes.server.layout import Layout
from molar_indexes.server.points import split, vectors
from molar_indexes.users import UserRecord, Users
from molar_retrieval import columns
from molar_retrieval.ranking.index_protocol import IndexSpec, SparseVector, point_id
from molar_retrieval.ranking.results import NOTHING

_USER, _HISTORY, _TIMES, _EVENTS, _ATTRIBUTES = "user_id", "history", "times", "events", "attributes"


def collection(spec: IndexSpec, layout: Layout, metadata: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``create_collection`` for the users of a generation."""
    never = models.HnswConfigDiff(m=0, payload_m=0)
    vector = models.VectorParams(
        size=spec.dims[columns.ALIGNED], distance=models.Distance.DOT, on_disk=True, hnsw_config=never
    )
    sparse = models.SparseVectorParams(index=models.SparseIndexParams(on_disk=True))
    return {
        "vectors_config": {columns.ALIGNED: vector},
        "sparse_vectors_config": {columns.ITEM_WEIGHTS: sparse},
        "shard_number": layout.shards,
        "replication_factor": layout.replicas,
        "on_disk_payload": True,
        "metadata": metadata,
    }


def read(store: Users, first: int, last: int) -> list[models.PointStruct]:
    """The points of the users from one number up to another."""
    return [_point(row, user) for row, user in enumerate(store.between(first, last), first)]


def _point(row: int, user: UserRecord) -> models.PointStruct:
    sparse = {columns.ITEM_WEIGHTS: user.sparse} if len(user.sparse.indices) else {}
    payload = {
        ROW: row,
        _USER: user.user_id,
        _HISTORY: [int(item) for item in user.history],
        _TIMES: [int(time) for time in user.times],
        _EVENTS: b64encode(user.events).decode(),
        _ATTRIBUTES: dict(user.attributes),
    }
    named = vectors({columns.ALIGNED: user.vector}, sparse)
    return models.PointStruct(id=point_id(user.user_id), vector=named, payload=payload)


class ServerUsers(Users):
    """Users by id, see :class:`molar_indexes.users.Users`; whoever made the connection closes it."""

    def __init__(self, connection: Connection, collection: str, count: int) -> None:
        self._ask, self._client = connection.ask, connection.client
        self._collection, self._count = collection, count

    def __len__(self) -> int:
        return self._count

    def keyed(self, key: str) -> UserRecord | None:
        """Who is stored under a key, or None."""
        point = point_id(key)
        found = self._ask(self._client.retrieve, self._collection, [point], with_payload=True, with_vectors=True)
        return _record(found[0]) if found else None

    def between(self, first: int, last: int) -> list[UserRecord]:
        """The users from one number up to another."""
        last = min(last, self._count)
        if last <= first:
            return []
        records, _ = self._ask(
            self._client.scroll,
            self._collection,
            scroll_filter=users_between(first, last),
            order_by=models.OrderBy(key=ROW_PATH),
            limit=last - first,
            with_payload=True,
            with_vectors=True,
        )
        return [_record(record) for record in records]

    def close(self) -> None:
        """The connection is the index's."""


def _record(record: models.Record) -> UserRecord:
    payload = record.payload or {}
    dense, sparse = split(record)
    neighbors: SparseVector = sparse.get(columns.ITEM_WEIGHTS, NOTHING)
    history, times, attributes = payload[_HISTORY], payload[_TIMES], payload[_ATTRIBUTES]
    events = b64decode(payload[_EVENTS])
    return UserRecord(payload[_USER], dense[columns.ALIGNED], history, neighbors, attributes, times, events)
