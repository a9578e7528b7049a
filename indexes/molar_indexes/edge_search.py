"""Searching a shard of the embedded Qdrant engine; :mod:`molar_indexes.edge` says what needs care."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from qdrant_edge import (
    AcornSearchParams,
    EdgeShard,
    FieldCondition,
    Filter,
    HasVectorCondition,
    MatchAny,
    Query,
    ScrollRequest,
    SearchParams,
    SearchRequest,
)
from qdrant_edge import SparseVector as EdgeSparse

from molar_indexes import equal_lengths
from molar_indexes.edge_layout import SHARD, graphs
from molar_indexes.edge_view import view
from molar_indexes.filters import from_payload, path, to_filter
from molar_indexes.records import BATCH, ITEM_ID, check_stored, checked_query
from molar_retrieval.errors import BackendError, DiskError, StaleArtefactError
from molar_retrieval.expressions import Expression
from molar_retrieval.index import SCAN, IndexSpec, SparseVector, StoredItem, Vector


class EdgeIndex:
    """An index on a shard of the embedded Qdrant engine; see :class:`molar_retrieval.index.Index`."""

    def __init__(self, folder: Path, spec: IndexSpec) -> None:
        self._spec = spec
        try:
            with view(folder / SHARD) as readable:
                self._shard = EdgeShard.load(str(readable))
            self._count: int = self._shard.info().points_count
        except DiskError:
            raise
        except BaseException as error:  # the engine panics on some damages, and a panic is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise StaleArtefactError(
                f"the index in {folder} cannot be opened: {error}", "run `molar align` to publish a new one"
            ) from error
        self._graph = graphs(spec, self._count)

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        return self._spec

    @property
    def graphs(self) -> Collection[str]:
        """Names of the vectors whose searches use a graph, and may miss some of the best."""
        return {name for name in self._graph if self._spec.candidates(name, 1) != SCAN}

    def searching(self, efs: Mapping[str, int]) -> Self:
        """The same shard with other candidate lists."""
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

        Where the vector has a graph, it may miss one of them.
        """
        values = checked_query(self._spec, name, query, k)
        condition = to_filter(where, exclude)
        if isinstance(values, SparseVector):
            if not values.indices:
                return []
            asked: Sequence[float] | EdgeSparse = EdgeSparse(list(values.indices), list(values.values))
        elif any(values):
            asked = equal_lengths.asked(self._spec, name, values)
        else:
            return self._first(name, k, condition)
        limit = min(k, self._count) + 1
        points = self._nearest(name, asked, limit, condition)
        while len(points) == limit and points[-1].score == points[k - 1].score:
            # Equal scores straddle the k-th place: widen until the last of them is in sight.
            limit = min(2 * limit, self._count + 1)
            points = self._nearest(name, asked, limit, condition)
        best = [(point.id, point.score) for point in points]
        if any(one[1] <= other[1] for one, other in pairwise(best)):  # equal scores come in any order
            best.sort(key=lambda pair: (-pair[1], pair[0]))
        return best[:k]

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """The stored items at ``rows``, in that order; unknown rows are left out."""
        check_stored(self._spec, vectors)
        wanted = [int(row) for row in rows if row >= 0]
        records = self._shard.retrieve(list(set(wanted)), with_payload=True, with_vector=list(vectors) or False)
        found = {record.id: _stored(self._spec, record) for record in records}
        return [found[row] for row in wanted if row in found]

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""
        found: dict[str, int] = {}
        for begin in range(0, len(item_ids), BATCH):
            wanted = list(set(item_ids[begin : begin + BATCH]))
            condition = Filter(must=[FieldCondition(path(ITEM_ID), match=MatchAny(wanted))])
            request = ScrollRequest(limit=len(wanted), filter=condition, with_payload=[path(ITEM_ID)])
            records: list[Any] = self._shard.scroll(request)[0]
            found |= {record.payload[ITEM_ID]: record.id for record in records}
        return [found.get(item_id) for item_id in item_ids]

    def _nearest(
        self,
        name: str,
        query: Sequence[float] | EdgeSparse,
        limit: int,
        condition: Filter | None,
        exact: bool = False,
    ) -> list[Any]:
        """Points by falling score.

        Args:
            name: A dense or a sparse vector.
            query: For it.
            limit: How many.
            condition: Which points.
            exact: Without the graph.
        """
        params = None
        if name in self._graph:
            candidates = SCAN if exact else self._spec.candidates(name, limit)
            exact = candidates == SCAN
            params = SearchParams(
                hnsw_ef=candidates or None,
                exact=exact,
                # Looks past what the condition leaves out, where that is more than four items in ten.
                acorn=AcornSearchParams(enable=True, max_selectivity=0.6) if condition is not None else None,
            )
        request = SearchRequest(
            query=Query.Nearest(query, using=name),  # type: ignore[arg-type]
            limit=limit,
            filter=condition,
            params=params,
        )
        try:
            points = list(self._shard.search(request))
        except Exception as error:
            raise BackendError(f"the embedded index failed: {error}", "run `molar index verify`") from error
        if len(points) < limit and name in self._graph and not exact:
            # The graph may run dry before everything that fits is found.
            return self._nearest(name, query, limit, condition, exact=True)
        return points

    def close(self) -> None:
        """Release files; the index cannot be used afterwards."""
        try:
            self._shard.close()
        except Exception:
            # Closing flushes into the view, which is gone; there is nothing to lose.
            return

    def _first(self, name: str, k: int, condition: Filter | None) -> list[tuple[int, float]]:
        """The answer to the zero vector: all scores are 0, so the lowest rows win."""
        must: list[Any] = [HasVectorCondition(name), *([condition] if condition else [])]
        request = ScrollRequest(limit=min(k, self._count), filter=Filter(must=must), with_payload=False)
        records: list[Any] = self._shard.scroll(request)[0] if self._count else []
        return [(record.id, 0.0) for record in records]


def _stored(spec: IndexSpec, record: Any) -> StoredItem:
    item_id, payload = from_payload(record.payload)
    if not record.vector:
        return StoredItem(record.id, item_id, payload)
    dense: dict[str, Vector] = {}
    sparse: dict[str, SparseVector] = {}
    for name, vector in record.vector.items():
        if isinstance(vector, EdgeSparse):
            sparse[name] = SparseVector(vector.indices, vector.values)
        else:
            dense[name] = equal_lengths.given(spec, name, vector)
    return StoredItem(record.id, item_id, payload, dense, sparse)
