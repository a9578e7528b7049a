"""An index that is a collection on a Qdrant server.

Points have their items' rows as ids, by which items are hidden, fetched and told apart. The collection is asked by its
own name: an alias may be switched between two questions. Searches of one question are one request.

Users of a generation in a collection of their own: vectors, history with its times and attributes of each.

Nobody searches among them; they are asked for by id. Histories are item rows of the same generation.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

from qdrant_client import models

from molar_indexes.qdrant_index import EngineSearch, Found, QdrantIndex
from molar_indexes.records import BATCH, ITEM_ID, check_stored
from molar_indexes.server.client import Connection, Nearest
from molar_indexes.server.points import (
    ITEM_ID_PATH,
    ROW,
    ROW_PATH,
    Layout,
    named,
    searched,
    split,
    to_item,
    understood,
    users_between,
    vectors,
)
from molar_indexes.users import UserRecord, Users
from molar_retrieval import columns
from molar_retrieval.ranking.index_protocol import IndexSpec, SparseVector, StoredItem, point_id
from molar_retrieval.ranking.results import NOTHING

_USER, _HISTORY, _TIMES, _EVENTS, _ATTRIBUTES = "user_id", "history", "times", "events", "attributes"


class ServerIndex(QdrantIndex):
    """An index that is a collection, called by its own name; it closes the connection.

    Without ``graph`` all vectors are scanned; a graph may run dry before all that fits is found.
    """

    def __init__(
        self,
        connection: Connection,
        collection: str,
        spec: IndexSpec,
        count: int,
        layout: Layout,
        *,
        graph: bool = True,
    ) -> None:
        super().__init__(spec, count, searched(spec) if graph else ())
        self.constructors = understood(connection.version)
        self._connection, self._ask, self._client = connection, connection.ask, connection.client
        self._collection, self._layout = collection, layout

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """The stored items at ``rows``, in that order; unknown rows are left out."""
        check_stored(self._spec, vectors)
        wanted = [int(row) for row in rows if row >= 0]
        distinct = sorted(set(wanted))
        found: dict[int, StoredItem] = {}
        for begin in range(0, len(distinct), BATCH):
            records = self._ask(
                self._client.retrieve,
                self._collection,
                distinct[begin : begin + BATCH],
                with_payload=True,
                with_vectors=list(vectors) or False,
            )
            found |= {int(record.id): to_item(self._spec, record) for record in records}
        return [found[row] for row in wanted if row in found]

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""
        found: dict[str, int] = {}
        distinct = sorted(set(item_ids))
        for begin in range(0, len(distinct), BATCH):
            wanted = distinct[begin : begin + BATCH]
            records, _ = self._ask(
                self._client.scroll,
                self._collection,
                scroll_filter=named(wanted),
                limit=len(wanted),
                with_payload=[ITEM_ID_PATH],
                with_vectors=False,
            )
            found |= {record.payload[ITEM_ID]: int(record.id) for record in records if record.payload}
        return [found.get(item_id) for item_id in item_ids]

    def close(self) -> None:
        """Close the connection; the index cannot be used afterwards."""
        self._connection.close()

    def _sparse(self, vector: SparseVector) -> models.SparseVector:
        return models.SparseVector(indices=list(vector.indices), values=list(vector.values))

    def _search(self, name: str, asked: Any, limit: int, condition: Any, candidates: int) -> Found:
        return self._searches([EngineSearch(name, asked, limit, candidates)], condition)[0]

    def _searches(self, asked: Sequence[EngineSearch], condition: Any) -> list[Found]:
        graphs, filtered = searched(self._spec), condition is not None
        nearest = [
            Nearest(
                one.name,
                one.vector,
                one.limit,
                self._layout.search(one.candidates, filtered=filtered) if one.name in graphs else None,
            )
            for one in asked
        ]
        return self._ask(self._client.nearest, self._collection, nearest, condition)

    def _first(self, name: str, k: int, condition: Any) -> Found:
        must: list[Any] = [models.HasVectorCondition(has_vector=name), *([condition] if condition else [])]
        records, _ = self._ask(
            self._client.scroll,
            self._collection,
            scroll_filter=models.Filter(must=must),
            limit=k,
            with_payload=False,
            with_vectors=False,
        )
        return [(int(record.id), 0.0) for record in records]


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
