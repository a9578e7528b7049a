"""The embedded Qdrant engine: a shard in the index folder, built once and then only read.

What the beta needs care for:

* Without a write-ahead log several processes may open one shard; with it the second one fails.
* Even a reader rewrites ``edge_config.json`` and ``segment.json`` on opening and closing, atomically and with the same
  content, so the folder must be writable.
* Equal scores come in no particular order, so ties are settled here.
* Vectors that are not finite are stored without a word; :func:`molar_indexes.records.batches` refuses them.
* A dot product is no metric and the graph misses some of the best on strongly clustered vectors, so it is used only
  where scanning everything would take more than some milliseconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qdrant_edge import (
    AcornSearchParams,
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    FloatIndexParams,
    HasVectorCondition,
    HnswIndexConfig,
    IntegerIndexParams,
    KeywordIndexParams,
    MatchAny,
    Memory,
    Point,
    Query,
    ScrollRequest,
    SearchParams,
    SearchRequest,
    UpdateOperation,
)

from molar_indexes.filters import from_payload, path, to_filter, to_payload
from molar_indexes.records import BATCH, ITEM_ID, batches, check_name, checked_query
from molar_retrieval.errors import BackendError, StaleArtefactError
from molar_retrieval.expressions import Expression
from molar_retrieval.index import Hit, IndexItem, IndexSpec, Vector
from molar_retrieval.progress import Progress

FULL_SCAN_KB = 65_536
"""Vectors of up to this size together are scanned, which is exact and takes about 5 ms; larger ones get a graph."""

_SHARD = "shard"
_FIELD_INDEXES = {
    "keyword": KeywordIndexParams,
    "integer": IntegerIndexParams,
    "float": FloatIndexParams,
    "bool": KeywordIndexParams,  # of the shadow words
}


def build(folder: Path, spec: IndexSpec, items: Iterable[IndexItem], progress: Progress) -> None:
    """Build the shard in ``folder``: points, payload indexes, then the graph.

    Raises:
        DataError: If an item does not fit the spec.
    """
    target = folder / _SHARD
    target.mkdir(parents=True)
    count = _insert(target, spec, items, progress)
    # Only now it is known which vectors deserve a graph.
    shard = EdgeShard.load(str(target), _config(spec, count))
    try:
        shard.optimize()
        shard.flush()
    finally:
        shard.close()
    progress.finish()


def _insert(target: Path, spec: IndexSpec, items: Iterable[IndexItem], progress: Progress) -> int:
    """Create the shard with its payload indexes and insert the items; returns how many they are."""
    count = 0
    shard = EdgeShard.create(str(target), _config(spec, count))
    try:
        for field, kind in {ITEM_ID: "keyword", **spec.fields}.items():
            schema = _FIELD_INDEXES[kind](memory=Memory.Cold)
            shard.update(UpdateOperation.create_field_index(path(field, kind), schema))
        progress.start("index", None)
        for batch in batches(spec, items):
            points = [
                Point(i.row, {n: list(v) for n, v in i.vectors.items()}, to_payload(i.item_id, i.payload))
                for i in batch
            ]
            shard.update(UpdateOperation.upsert_points(points))
            progress.advance(len(points))
            count += len(points)
        shard.flush()
    finally:
        shard.close()
    return count


def graphs(spec: IndexSpec, count: int) -> set[str]:
    """Names of the vectors that are too many to be scanned for every query."""
    return {name for name, dim in spec.dims.items() if count * dim * 4 > FULL_SCAN_KB * 1024}


def _config(spec: IndexSpec, count: int) -> EdgeConfig:
    """The shard's configuration for ``count`` items.

    Cold memory is mapped and read on demand, so that a process that asks once stays small. A graph is built whatever
    ``full_scan_threshold`` says, unless it is to have no edges.
    """
    with_graph = graphs(spec, count)

    def hnsw(m: int) -> HnswIndexConfig:
        return HnswIndexConfig(
            m=m, payload_m=m, ef_construct=spec.ef_construct, full_scan_threshold=FULL_SCAN_KB, memory=Memory.Cold
        )

    return EdgeConfig(
        vectors={
            name: EdgeVectorParams(
                size=size,
                distance=Distance.Dot,
                hnsw_config=hnsw(spec.m if name in with_graph else 0),
                memory=Memory.Cold,
            )
            for name, size in spec.dims.items()
        },
        hnsw_config=hnsw(spec.m),
        # From 1 kB on everything moves into one immutable segment.
        optimizers=EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1),
        payload_memory=Memory.Cold,
        max_search_threads=1,
        wal_enabled=False,
    )


def open_folder(folder: Path, spec: IndexSpec) -> "EdgeIndex":
    """Open the shard that :func:`build` left in ``folder``."""
    return EdgeIndex(folder, spec)


class EdgeIndex:
    """An index on a shard of the embedded Qdrant engine; see :class:`molar_retrieval.index.Index`."""

    def __init__(self, folder: Path, spec: IndexSpec) -> None:
        self._spec = spec
        try:
            self._shard = EdgeShard.load(str(folder / _SHARD))
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
        exclude: Iterable[int] = (),
        where: Expression | None = None,
        vectors: Sequence[str] = (),
    ) -> list[Hit]:
        """The ``k`` items with the largest dot product, best first, equal scores by row."""
        values = checked_query(self._spec, name, query, k)
        for other in vectors:
            check_name(self._spec, other)
        condition = to_filter(where, exclude)
        if not any(values):
            return self._first(name, k, condition, vectors)
        limit = min(k, self._count) + 1
        points = self._nearest(name, values, limit, condition, where is not None, vectors)
        if len(points) == limit and points[-2].score == points[-1].score:
            return self._tied(name, values, limit, condition, vectors)
        if len(points) < limit and name in self._graph:
            # The graph may run dry before everything that fits is found.
            points = self._nearest(name, values, limit, condition, None, vectors)
        points.sort(key=lambda p: (-p.score, p.id))
        return [_hit(p, p.score) for p in points[: limit - 1]]

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[Hit]:
        """The stored items at ``rows``, in that order; unknown rows are left out."""
        for name in vectors:
            check_name(self._spec, name)
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

    def close(self) -> None:
        """Release files; the index cannot be used afterwards."""
        try:
            self._shard.close()
        except Exception:
            # Closing flushes, which fails where the folder was removed meanwhile; there is nothing to lose.
            return

    def _nearest(
        self,
        name: str,
        query: Sequence[float],
        limit: int,
        condition: Filter | None,
        filtered: bool | None,
        vectors: Sequence[str] | None,
    ) -> list[Any]:
        """Points by falling score; ``filtered`` None: exactly, ``vectors`` None: neither vectors nor payload."""
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
            return list(self._shard.search(request))
        except Exception as error:
            raise BackendError(f"the embedded index failed: {error}", "run `molar index verify`") from error

    def _tied(
        self, name: str, query: Sequence[float], limit: int, condition: Filter | None, vectors: Sequence[str]
    ) -> list[Hit]:
        """The answer where equal scores straddle the k-th place: widen until the last of them is in sight."""
        k = limit - 1
        while True:
            limit = min(2 * limit, self._count + 1)
            points = self._nearest(name, query, limit, condition, None, None)
            if len(points) < limit or points[-1].score < points[k - 1].score:
                break
        best = sorted(points, key=lambda p: (-p.score, p.id))[:k]
        records = {hit.row: hit for hit in self.fetch([p.id for p in best], vectors=vectors)}
        return [Hit(p.id, (h := records[p.id]).item_id, p.score, h.payload, h.vectors) for p in best]

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


def _hit(point: Any, score: float) -> Hit:
    item_id, payload = from_payload(point.payload)
    vectors: Mapping[str, Vector] = point.vector or {}
    return Hit(point.id, item_id, score, payload, vectors)
