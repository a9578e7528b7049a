"""Searching a shard of the embedded Qdrant engine; :mod:`molar_indexes.edge` says what needs care."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from qdrant_edge import (
    AcornSearchParams,
    EdgeShard,
    FieldCondition,
    Filter,
    HasIdCondition,
    HasVectorCondition,
    MatchAny,
    Query,
    ScrollRequest,
    SearchParams,
    SearchRequest,
)
from qdrant_edge import SparseVector as EdgeSparse

from molar_indexes.edge_layout import SHARD, graphs
from molar_indexes.filters import from_payload, path, to_filter
from molar_indexes.records import BATCH, ITEM_ID, check_stored, checked_plus, checked_query
from molar_indexes.threshold import best_sums
from molar_retrieval.errors import BackendError, StaleArtefactError
from molar_retrieval.expressions import Expression
from molar_retrieval.index import Hit, IndexSpec, SparseVector, Vector


class EdgeIndex:
    """An index on a shard of the embedded Qdrant engine; see :class:`molar_retrieval.index.Index`."""

    def __init__(self, folder: Path, spec: IndexSpec) -> None:
        self._spec = spec
        try:
            self._shard = EdgeShard.load(str(folder / SHARD))
            self._count: int = self._shard.info().points_count
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

    def __len__(self) -> int:
        return self._count

    def search(
        self,
        name: str,
        query: Vector,
        k: int,
        *,
        plus: Mapping[str, SparseVector] | None = None,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
        vectors: Sequence[str] = (),
    ) -> list[Hit]:
        """The ``k`` items with the largest score, best first, equal scores by row.

        With sparse queries every addend is exact, and :func:`best_sums` reads the lists until they prove the answer.
        Where the dense vector has a graph, the proof holds for what the graph finds; it may miss one of the best.
        """
        values = checked_query(self._spec, name, query, k)
        sparse = checked_plus(self._spec, plus)
        check_stored(self._spec, vectors)
        condition = to_filter(where, exclude)
        if sparse:
            addends = [_Addend(self, name, values, condition, where is not None, -inf)]
            for other, vector in sparse.items():
                weights = EdgeSparse(list(vector.indices), list(vector.values))
                addends.append(_Addend(self, other, weights, condition, where is not None, 0.0))
            return self._stored(best_sums(addends, k, self._count), vectors)
        if not any(values):
            return self._first(name, k, condition, vectors)
        limit = min(k, self._count) + 1
        points = self.nearest(name, values, limit, condition, where is not None, vectors)
        if len(points) == limit and points[-2].score == points[-1].score:
            return self._tied(name, values, limit, condition, vectors)
        points.sort(key=lambda p: (-p.score, p.id))
        return [_hit(p, p.score) for p in points[: limit - 1]]

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[Hit]:
        """The stored items at ``rows``, in that order; unknown rows are left out."""
        check_stored(self._spec, vectors)
        wanted = [int(row) for row in rows if row >= 0]
        records = self._shard.retrieve(list(set(wanted)), with_payload=True, with_vector=list(vectors) or False)
        found = {record.id: _hit(record, 0.0) for record in records}
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

    def nearest(
        self,
        name: str,
        query: Sequence[float] | EdgeSparse,
        limit: int,
        condition: Filter | None,
        filtered: bool | None,
        vectors: Sequence[str] | None,
    ) -> list[Any]:
        """Points by falling score.

        Args:
            name: A dense or a sparse vector.
            query: For it.
            limit: How many.
            condition: Which points.
            filtered: Whether the condition is one on the payload; None: exactly, without the graph.
            vectors: To return with the payload; None: neither.
        """
        params = None
        if name in self._graph:
            params = SearchParams(
                hnsw_ef=max(self._spec.ef, limit),
                exact=filtered is None,
                acorn=AcornSearchParams(enable=True, max_selectivity=0.6) if filtered else None,
            )
        request = SearchRequest(
            query=Query.Nearest(query, using=name),  # type: ignore[arg-type]
            limit=limit,
            filter=condition,
            params=params,
            with_payload=vectors is not None,
            with_vector=list(vectors) if vectors else False,
        )
        try:
            points = list(self._shard.search(request))
        except Exception as error:
            raise BackendError(f"the embedded index failed: {error}", "run `molar index verify`") from error
        if len(points) < limit and name in self._graph and filtered is not None:
            # The graph may run dry before everything that fits is found.
            return self.nearest(name, query, limit, condition, None, vectors)
        return points

    def close(self) -> None:
        """Release files; the index cannot be used afterwards."""
        try:
            self._shard.close()
        except Exception:
            # Closing flushes, which fails where the folder was removed meanwhile; there is nothing to lose.
            return

    def _tied(
        self, name: str, query: Sequence[float], limit: int, condition: Filter | None, vectors: Sequence[str]
    ) -> list[Hit]:
        """The answer where equal scores straddle the k-th place: widen until the last of them is in sight."""
        k = limit - 1
        while True:
            limit = min(2 * limit, self._count + 1)
            points = self.nearest(name, query, limit, condition, None, None)
            if len(points) < limit or points[-1].score < points[k - 1].score:
                break
        best = sorted(((p.id, p.score) for p in points), key=lambda pair: (-pair[1], pair[0]))[:k]
        return self._stored(best, vectors)

    def _stored(self, best: Sequence[tuple[int, float]], vectors: Sequence[str]) -> list[Hit]:
        """Hits for rows and scores."""
        hits = self.fetch([row for row, _ in best], vectors=vectors)
        return [replace(hit, score=score) for hit, (_, score) in zip(hits, best, strict=True)]

    def _first(self, name: str, k: int, condition: Filter | None, vectors: Sequence[str]) -> list[Hit]:
        """The answer to the zero vector: all scores are 0, so the lowest rows win."""
        must: list[Any] = [HasVectorCondition(name), *([condition] if condition else [])]
        request = ScrollRequest(
            limit=min(k, self._count),
            filter=Filter(must=must),
            with_payload=True,
            with_vector=list(vectors) if vectors else False,
        )
        return [_hit(record, 0.0) for record in self._shard.scroll(request)[0]] if self._count else []


@dataclass(frozen=True)
class _Addend:
    """One addend of a sum of scores, see :class:`molar_indexes.threshold.Ranking`."""

    index: EdgeIndex
    name: str
    query: Sequence[float] | EdgeSparse
    condition: Filter | None
    filtered: bool
    absent: float

    def best(self, n: int) -> list[tuple[int, float]]:
        """The first of the list."""
        points = self.index.nearest(self.name, self.query, n, self.condition, self.filtered, None)
        return [(point.id, point.score) for point in points]

    def of(self, rows: Iterable[int]) -> dict[int, float]:
        """The addends of some rows."""
        only: set[Any] = set(rows)
        condition = Filter(must=[HasIdCondition(only)])
        points = self.index.nearest(self.name, self.query, len(only), condition, None, None)
        return {point.id: point.score for point in points}


def _hit(point: Any, score: float) -> Hit:
    item_id, payload = from_payload(point.payload)
    dense: dict[str, Vector] = {}
    sparse: dict[str, SparseVector] = {}
    for name, vector in (point.vector or {}).items():
        if isinstance(vector, EdgeSparse):
            sparse[name] = SparseVector(vector.indices, vector.values)
        else:
            dense[name] = vector
    return Hit(point.id, item_id, score, payload, dense, sparse)
