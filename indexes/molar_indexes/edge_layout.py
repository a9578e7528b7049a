"""How an index lies in a shard of the embedded Qdrant engine: which vectors get a graph, where what is kept."""

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    HnswIndexConfig,
    Memory,
)

from molar_indexes import equal_lengths
from molar_retrieval import columns
from molar_retrieval.index import IndexSpec

SHARD = "shard"
"""The shard's place in an index folder."""

FULL_SCAN_KB = 16_384
"""Vectors of up to this size together are scanned, exactly, in a millisecond or two; larger ones get a graph."""

_SPARSE_SCAN = 32
"""So many items are scored one by one (17 µs each); the engine's own limit of 5,000 costs 27 ms where the inverted
index takes 0.7 ms."""


def graphs(spec: IndexSpec, count: int) -> set[str]:
    """Names of the vectors that are too many to be scanned for every query; nobody searches ``cf`` often."""
    searched = {name: dim for name, dim in equal_lengths.dims(spec).items() if name != columns.CF}
    return {name for name, dim in searched.items() if count * dim * 4 > FULL_SCAN_KB * 1024}


def config(spec: IndexSpec, count: int) -> EdgeConfig:
    """The shard's configuration for ``count`` items.

    The graph has no links of its own for values of the payload: they take several times as long to build as all else,
    and a filtered search finds as much without them.

    Cold memory is mapped and read on demand, so that a process that asks once stays small. A graph is built whatever
    ``full_scan_threshold`` says, unless it is to have no edges.
    """
    with_graph = graphs(spec, count)

    def hnsw(m: int) -> HnswIndexConfig:
        return HnswIndexConfig(
            m=m, payload_m=0, ef_construct=spec.ef_construct, full_scan_threshold=FULL_SCAN_KB, memory=Memory.Cold
        )

    return EdgeConfig(
        vectors={
            name: EdgeVectorParams(
                size=size,
                distance=Distance.Dot,
                hnsw_config=hnsw(spec.m if name in with_graph else 0),
                memory=Memory.Cold,
            )
            for name, size in equal_lengths.dims(spec).items()
        },
        sparse_vectors={
            name: EdgeSparseVectorParams(full_scan_threshold=_SPARSE_SCAN, memory=Memory.Cold) for name in spec.sparse
        },
        hnsw_config=hnsw(spec.m),
        # From 1 kB on everything moves into one immutable segment.
        optimizers=EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1),
        payload_memory=Memory.Cold,
        max_search_threads=1,
        wal_enabled=False,
    )
