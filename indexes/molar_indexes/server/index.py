"""An index that is a collection on a Qdrant server.

Points have their items' rows as ids, by which items are hidden, fetched and told apart. The collection is asked by its
own name: an alias may be switched between two questions. Searches of one question are one request.
"""

from collections.abc import Sequence
from typing import Any

from qdrant_client import models

from molar_indexes.qdrant_index import EngineSearch, Found, QdrantIndex
from molar_indexes.records import BATCH, ITEM_ID, check_stored
from molar_indexes.server.client import Nearest
from molar_indexes.server.connect import Connection
from molar_indexes.server.filters import ITEM_ID_PATH, named, understood
from molar_indexes.server.layout import Layout, searched
from molar_indexes.server.points import to_item
from molar_retrieval.ranking.index_protocol import IndexSpec, SparseVector, StoredItem


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
