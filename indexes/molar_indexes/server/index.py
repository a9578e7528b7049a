"""An index that is a collection on a Qdrant server.

Points have UUIDs; rows are payload, by which items are hidden, fetched and told apart. The collection is asked by its
own name: an alias may be switched between two questions.
"""

from collections.abc import Sequence
from typing import Any

from qdrant_client import models

from molar_indexes.qdrant_index import Found, QdrantIndex
from molar_indexes.records import BATCH, ITEM_ID, check_stored
from molar_indexes.server.connect import Connection
from molar_indexes.server.filters import ROW, ROW_PATH, among, understood
from molar_indexes.server.layout import Layout, searched
from molar_indexes.server.points import float32, to_item
from molar_retrieval.index import IndexSpec, SparseVector, StoredItem
from molar_retrieval.point_ids import point_id


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
            for record in self._records(distinct[begin : begin + BATCH], list(vectors)):
                item = to_item(self._spec, record)
                found[item.row] = item
        return [found[row] for row in wanted if row in found]

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""
        found: dict[str, int] = {}
        points = {point_id(item_id): item_id for item_id in item_ids}
        ids = list(points)
        for begin in range(0, len(ids), BATCH):
            records = self._ask(
                self._client.retrieve,
                self._collection,
                ids[begin : begin + BATCH],
                with_payload=[ROW_PATH, f'"{ITEM_ID}"'],
                with_vectors=False,
            )
            found |= {record.payload[ITEM_ID]: record.payload[ROW] for record in records if record.payload}
        return [found.get(item_id) for item_id in item_ids]

    def close(self) -> None:
        """Close the connection; the index cannot be used afterwards."""
        self._connection.close()

    def _records(self, wanted: Sequence[int], vectors: list[str]) -> list[models.Record]:
        return self._ask(
            self._client.scroll,
            self._collection,
            scroll_filter=models.Filter(must=[among(wanted)]),
            limit=len(wanted),
            with_payload=True,
            with_vectors=vectors or False,
        )[0]

    def _sparse(self, vector: SparseVector) -> models.SparseVector:
        return models.SparseVector(indices=list(vector.indices), values=list(vector.values))

    def _search(self, name: str, asked: Any, limit: int, condition: Any, candidates: int) -> Found:
        dense = name in searched(self._spec)
        points = self._ask(
            self._client.query_points,
            self._collection,
            query=asked,
            using=name,
            query_filter=condition,
            search_params=self._layout.search(candidates, filtered=condition is not None) if dense else None,
            limit=limit,
            with_payload=[ROW_PATH],
            with_vectors=False,
        ).points
        scores = float32(point.score for point in points)
        return [(point.payload[ROW], score) for point, score in zip(points, scores, strict=True) if point.payload]

    def _first(self, name: str, k: int, condition: Any) -> Found:
        must: list[Any] = [models.HasVectorCondition(has_vector=name), *([condition] if condition else [])]
        records, _ = self._ask(
            self._client.scroll,
            self._collection,
            scroll_filter=models.Filter(must=must),
            order_by=models.OrderBy(key=ROW_PATH),
            limit=k,
            with_payload=[ROW_PATH],
            with_vectors=False,
        )
        return [(record.payload[ROW], 0.0) for record in records if record.payload]
