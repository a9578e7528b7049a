"""A bare shard of one vector under other settings, to measure what a graph or quantisation would cost in quality.

Small catalogues are scanned exactly, so a served index of theirs says nothing about the day when they have grown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import qdrant_edge as engine

from molar_indexes import equal_lengths
from molar_indexes.edge import EMBEDDED, OF_GRAPHS
from molar_retrieval.ranking.index_protocol import IndexSpec

Quantisation = Literal["none", "scalar", "rotated", "binary"]
_QUANTISATION: dict[Quantisation, Any] = {
    "none": None,
    "scalar": engine.ScalarQuantizationConfig(engine.ScalarType.Int8),
    "rotated": OF_GRAPHS,
    "binary": engine.BinaryQuantizationConfig(),
}
_NAME = "vector"
_BATCH = 4096


@dataclass(frozen=True)
class Variation:
    """Settings to compare with.

    ``scalar`` quantisation takes 8 bits a number, ``rotated`` as many of rotated vectors, as an index does, ``binary``
    one; twice the candidates, or all of a graph's, are then scored again by the whole vectors.
    """

    graph: bool = True  # search an HNSW graph; False: scan
    m: int = 32  # edges per node
    ef_construct: int = 256  # candidate list while building
    ef: int = 512  # candidate list while searching
    quantisation: Quantisation = "none"


class WhatIf:
    """An index, in an empty folder, of the rows of a matrix of shape (n, d) by dot products; a context manager.

    With ``lengthen`` vectors are brought to one length, see :mod:`molar_indexes.equal_lengths`.
    """

    def __init__(
        self, folder: Path, vectors: npt.NDArray[np.float32], variation: Variation, *, lengthen: bool = True
    ) -> None:
        self._variation = variation
        lengths = {_NAME: equal_lengths.longest(vectors)} if lengthen else {}
        self._spec = IndexSpec({_NAME: vectors.shape[1]}, lengths=lengths)
        self._shard = engine.EdgeShard.create(str(folder), _config(equal_lengths.dims(self._spec)[_NAME], variation))
        for begin in range(0, len(vectors), _BATCH):
            rows = range(begin, min(begin + _BATCH, len(vectors)))
            own = [equal_lengths.stored(self._spec, _NAME, vectors[row].tolist()) for row in rows]
            points = [engine.Point(row, {_NAME: vector}, {}) for row, vector in zip(rows, own, strict=True)]
            self._shard.update(engine.UpdateOperation.upsert_points(points))
        self._shard.optimize()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shard.close()

    def search(self, query: Sequence[float], k: int, exclude: Sequence[int] = ()) -> list[int]:
        """Rows of the ``k`` best, without those to exclude."""
        quantised = self._variation.quantisation != "none"
        request = engine.SearchRequest(
            query=engine.Query.Nearest(equal_lengths.asked(self._spec, _NAME, query), using=_NAME),
            limit=k,
            filter=EMBEDDED.to_filter(None, exclude),
            params=engine.SearchParams(
                hnsw_ef=max(self._variation.ef, k),
                quantization=engine.QuantizationSearchParams(
                    rescore=True, oversampling=max(2.0, self._variation.graph * self._variation.ef / k)
                )
                if quantised
                else None,
            ),
        )
        found: list[Any] = self._shard.search(request)
        return [point.id for point in found]


def _config(dim: int, variation: Variation) -> engine.EdgeConfig:
    m, ef = variation.m if variation.graph else 0, variation.ef_construct
    hnsw = engine.HnswIndexConfig(m=m, ef_construct=ef, full_scan_threshold=1, max_indexing_threads=1)
    quantisation = _QUANTISATION[variation.quantisation]
    vector = engine.EdgeVectorParams(
        size=dim, distance=engine.Distance.Dot, hnsw_config=hnsw, quantization_config=quantisation
    )
    return engine.EdgeConfig(
        vectors={_NAME: vector},
        hnsw_config=hnsw,
        optimizers=engine.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1),
        max_search_threads=1,
        wal_enabled=False,
    )
