"""Searching a shard of the embedded Qdrant engine; :mod:`molar_indexes.edge` says what needs care."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import qdrant_edge as engine

from molar_indexes import equal_lengths
from molar_indexes.edge_layout import EMBEDDED, SHARD, from_payload, graphs, path
from molar_indexes.edge_view import view
from molar_indexes.qdrant_index import Found, QdrantIndex
from molar_indexes.records import BATCH, ITEM_ID, check_stored
from molar_retrieval.errors import BackendError, DiskError, StaleArtefactError
from molar_retrieval.ranking.index_protocol import SCAN, IndexSpec, SparseVector, StoredItem, Vector


class EdgeIndex(QdrantIndex):
    """An index on a shard of the embedded Qdrant engine."""

    constructors = EMBEDDED

    def __init__(self, folder: Path, spec: IndexSpec) -> None:
        try:
            with view(folder / SHARD) as readable:
                self._shard = engine.EdgeShard.load(str(readable))
            count: int = self._shard.info().points_count
        except DiskError:
            raise
        except BaseException as error:  # the engine panics on some damages, and a panic is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise StaleArtefactError(
                f"the index in {folder} cannot be opened: {error}", "run `molar align` to publish a new one"
            ) from error
        super().__init__(spec, count, graphs(spec, count))

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
            condition = engine.Filter(must=[engine.FieldCondition(path(ITEM_ID), match=engine.MatchAny(wanted))])
            request = engine.ScrollRequest(limit=len(wanted), filter=condition, with_payload=[path(ITEM_ID)])
            records: list[Any] = self._shard.scroll(request)[0]
            found |= {record.payload[ITEM_ID]: record.id for record in records}
        return [found.get(item_id) for item_id in item_ids]

    def close(self) -> None:
        """Release files; the index cannot be used afterwards."""
        with suppress(Exception):  # closing flushes into the view, which is gone; there is nothing to lose
            self._shard.close()

    def _sparse(self, vector: SparseVector) -> engine.SparseVector:
        return engine.SparseVector(list(vector.indices), list(vector.values))

    def _search(self, name: str, asked: Any, limit: int, condition: Any, candidates: int) -> Found:
        params = None
        if name in self._graph:
            params = engine.SearchParams(
                hnsw_ef=candidates or None,
                exact=candidates == SCAN,
                # All that a graph finds is scored by whole vectors; what was published before has no others.
                quantization=engine.QuantizationSearchParams(
                    ignore=candidates == SCAN, rescore=True, oversampling=max(1.0, candidates / limit)
                ),
                # Looks past what the condition leaves out, where that is more than four items in ten.
                acorn=engine.AcornSearchParams(enable=True, max_selectivity=0.6) if condition is not None else None,
            )
        nearest = engine.Query.Nearest(asked, using=name)
        request = engine.SearchRequest(query=nearest, limit=limit, filter=condition, params=params)
        try:
            points: list[Any] = self._shard.search(request)
        except Exception as error:
            raise BackendError(f"the embedded index failed: {error}", "run `molar index verify`") from error
        return [(point.id, point.score) for point in points]

    def _first(self, name: str, k: int, condition: Any) -> Found:
        must: list[Any] = [engine.HasVectorCondition(name), *([condition] if condition else [])]
        request = engine.ScrollRequest(limit=k, filter=engine.Filter(must=must), with_payload=False)
        records: list[Any] = self._shard.scroll(request)[0]
        return [(record.id, 0.0) for record in records]


def _stored(spec: IndexSpec, record: Any) -> StoredItem:
    item_id, payload = from_payload(record.payload)
    if not record.vector:
        return StoredItem(record.id, item_id, payload)
    dense: dict[str, Vector] = {}
    sparse: dict[str, SparseVector] = {}
    for name, vector in record.vector.items():
        if isinstance(vector, engine.SparseVector):
            sparse[name] = SparseVector(vector.indices, vector.values)
        else:
            dense[name] = equal_lengths.given(spec, name, vector)
    return StoredItem(record.id, item_id, payload, dense, sparse)
