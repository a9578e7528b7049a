"""An index that is a collection on a Qdrant server.

What needs care:

* Points have UUIDs; rows are payload, by which items are hidden, fetched and told apart.
* Equal scores come in no particular order, so ties are settled here.
* The collection is asked by its own name: an alias may be switched between two questions.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Self

from qdrant_client import QdrantClient, models

from molar_indexes import equal_lengths
from molar_indexes.records import BATCH, ITEM_ID, check_stored, checked_query
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.faults import asking
from molar_indexes.server.filters import ROW, ROW_PATH, among, to_filter
from molar_indexes.server.layout import Layout, searched
from molar_indexes.server.points import float32, to_item
from molar_retrieval.expressions import Expression
from molar_retrieval.index import SCAN, IndexSpec, SparseVector, StoredItem, Vector
from molar_retrieval.point_ids import point_id


class ServerIndex:
    """An index on a server; see :class:`molar_retrieval.index.Index`.

    Args:
        client: Connected; closed with the index.
        server: Who that is.
        collection: Its name, no alias.
        spec: What it holds.
        count: How many items.
        layout: How it was laid out.
        graph: Whether some vectors have a graph, which may run dry before all that fits is found.
    """

    def __init__(
        self,
        client: QdrantClient,
        server: ServerConfig,
        collection: str,
        spec: IndexSpec,
        count: int,
        layout: Layout,
        *,
        graph: bool = True,
    ) -> None:
        self._client, self._server, self._collection = client, server, collection
        self._spec, self._count, self._layout, self._graph = spec, count, layout, graph

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        return self._spec

    @property
    def graphs(self) -> Collection[str]:
        """Names of the vectors whose searches use a graph, and may miss some of the best."""
        if not self._graph:
            return ()
        return {name for name in searched(self._spec) if self._spec.candidates(name, 1) != SCAN}

    def searching(self, efs: Mapping[str, int]) -> Self:
        """The same collection with other candidate lists."""
        other = copy(self)
        other._spec = replace(self._spec, efs={**self._spec.efs, **efs})
        return other

    def __len__(self) -> int:
        return self._count

    def top(
        self,
        name: str,
        query: Vector | SparseVector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
    ) -> list[tuple[int, float]]:
        """Rows and scores of the best; see :class:`molar_retrieval.index.Index`.

        Where the server has a graph, it may miss one of them.

        Raises:
            ServerError: If the server does not answer.
        """
        values = checked_query(self._spec, name, query, k)
        condition = to_filter(where, exclude)
        if isinstance(values, SparseVector):
            if not values.indices:
                return []
            asked: Any = models.SparseVector(indices=list(values.indices), values=list(values.values))
        elif any(values):
            asked = equal_lengths.asked(self._spec, name, values)
        else:
            return self._first(name, k, condition)
        limit = min(k, self._count) + 1
        best = self._nearest(name, asked, limit, condition)
        while len(best) == limit and best[-1][1] == best[k - 1][1]:
            # Equal scores straddle the k-th place: widen until the last of them is in sight.
            limit = min(2 * limit, self._count + 1)
            best = self._nearest(name, asked, limit, condition)
        return sorted(best, key=lambda pair: (-pair[1], pair[0]))[:k]

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
            with asking(self._server):
                records = self._client.retrieve(
                    self._collection,
                    ids[begin : begin + BATCH],
                    with_payload=[ROW_PATH, f'"{ITEM_ID}"'],
                    with_vectors=False,
                )
            found |= {record.payload[ITEM_ID]: record.payload[ROW] for record in records if record.payload}
        return [found.get(item_id) for item_id in item_ids]

    def close(self) -> None:
        """Close the connection; the index cannot be used afterwards."""
        self._client.close()

    def _records(self, wanted: Sequence[int], vectors: list[str]) -> list[models.Record]:
        with asking(self._server):
            return self._client.scroll(
                self._collection,
                scroll_filter=models.Filter(must=[among(wanted)]),
                limit=len(wanted),
                with_payload=True,
                with_vectors=vectors or False,
            )[0]

    def _nearest(
        self, name: str, query: Any, limit: int, condition: models.Filter | None, exact: bool = False
    ) -> list[tuple[int, float]]:
        """Rows and scores by falling score."""
        dense, params = name in searched(self._spec), None
        if dense:
            candidates = SCAN if exact else self._spec.candidates(name, limit)
            exact = candidates == SCAN
            params = self._layout.search(candidates, filtered=condition is not None)
        with asking(self._server):
            points = self._client.query_points(
                self._collection,
                query=query,
                using=name,
                query_filter=condition,
                search_params=params,
                limit=limit,
                with_payload=[ROW_PATH],
                with_vectors=False,
            ).points
        if len(points) < limit and dense and self._graph and not exact:
            return self._nearest(name, query, limit, condition, exact=True)
        scores = float32(point.score for point in points)
        return [(point.payload[ROW], score) for point, score in zip(points, scores, strict=True) if point.payload]

    def _first(self, name: str, k: int, condition: models.Filter | None) -> list[tuple[int, float]]:
        """The answer to the zero vector: all scores are 0, so the lowest rows win."""
        if not self._count:
            return []
        must: list[Any] = [models.HasVectorCondition(has_vector=name), *([condition] if condition else [])]
        with asking(self._server):
            records, _ = self._client.scroll(
                self._collection,
                scroll_filter=models.Filter(must=must),
                order_by=models.OrderBy(key=ROW_PATH),
                limit=min(k, self._count),
                with_payload=[ROW_PATH],
                with_vectors=False,
            )
        return [(record.payload[ROW], 0.0) for record in records if record.payload]
