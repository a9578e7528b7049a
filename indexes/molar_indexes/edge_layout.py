"""How an index lies in a shard of the embedded Qdrant engine: which vectors get a graph, where what is kept.

The Python binding 0.9 turns ``MatchValue(True)`` into the integer 1, which no boolean equals. So booleans are stored a
second time, as the keywords ``true`` and ``false`` under a shadow key, for filters only.
"""

from collections.abc import Mapping
from math import inf
from typing import Any

import qdrant_edge as engine

from molar_indexes import equal_lengths
from molar_indexes.filters import FilterConstructors, field_of, key_of, quoted
from molar_indexes.records import ITEM_ID
from molar_retrieval.ranking.index_protocol import IndexSpec

SHARD = "shard"  # the shard's place in an index folder
FULL_SCAN_KB = 16_384
"""Vectors of up to this size together are scanned, exactly, in a millisecond or two; larger ones get a graph."""
_SPARSE_SCAN = 32
"""So many items are scored one by one (17 µs each); the engine's own limit of 5,000 costs 27 ms where the inverted
index takes 0.7 ms."""
_SHADOW = "%bool:"
OF_GRAPHS = engine.TurboQuantQuantizationConfig(bits=engine.TurboQuantBitSize.Bits8, memory=engine.Memory.Cold)
"""Vectors that have a graph are kept once more in a byte a number, turned so that all numbers are of one size (the one
that brings them to one length is not). By these a graph is built and walked, in half the time and as well; what it
finds is scored by the whole ones."""


def path(field: str, kind: str = "keyword") -> str:
    """The engine's JSON path of a field; that of its shadow for ``bool``."""
    return quoted(field, _SHADOW if kind == "bool" else "")


def to_payload(item_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored for a cleaned payload."""
    stored: dict[str, Any] = {ITEM_ID: item_id}
    for field, value in payload.items():
        key = key_of(field)
        stored[key] = value
        truths = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, bool)]
        if truths:
            stored[_SHADOW + key] = [_word(v) for v in truths]
    return stored


def from_payload(stored: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The item's id and its payload, as they were given."""
    fields = dict(stored)
    item_id = fields.pop(ITEM_ID)
    if "%" in "".join(fields):  # of a shadow, or of a name that had to be escaped
        fields = {field_of(k): v for k, v in fields.items() if not k.startswith(_SHADOW)}
    return item_id, fields


def _equals(field: str, value: str | bool | int) -> engine.FieldCondition:
    if isinstance(value, bool):
        return engine.FieldCondition(path(field, "bool"), match=engine.MatchValue(_word(value)))
    return engine.FieldCondition(path(field), match=engine.MatchValue(value))


def _word(value: bool) -> str:
    return "true" if value else "false"


EMBEDDED = FilterConstructors(
    filter=engine.Filter,
    equals=_equals,
    among=lambda field, words: engine.FieldCondition(path(field), match=engine.MatchAny(words)),
    within=lambda field, bounds: engine.FieldCondition(path(field), range=engine.RangeFloat(**bounds)),
    contains=lambda field, part: engine.FieldCondition(path(field), match=engine.MatchSubstring(part)),
    empty=lambda field: engine.IsEmptyCondition(path(field)),
    rows=lambda rows: engine.HasIdCondition(set(rows)),
    largest=inf,
)
"""Conditions of the embedded engine."""


def graphs(spec: IndexSpec, count: int) -> set[str]:
    """Names of the vectors that are too many to be scanned for every query, of those that are searched often."""
    dims = equal_lengths.dims(spec)
    return {name for name in spec.searched if count * dims[name] * 4 > FULL_SCAN_KB * 1024}


def config(spec: IndexSpec, count: int) -> engine.EdgeConfig:
    """The shard's configuration for ``count`` items.

    The graph has no links of its own for values of the payload: they take several times as long to build as all else,
    and a filtered search finds as much without them. Cold memory is mapped and read on demand, so that a process that
    asks once stays small. A graph is built whatever ``full_scan_threshold`` says, unless it is to have no edges.
    """
    with_graph, cold = graphs(spec, count), engine.Memory.Cold

    def hnsw(m: int) -> engine.HnswIndexConfig:
        return engine.HnswIndexConfig(
            m=m, payload_m=0, ef_construct=spec.ef_construct, full_scan_threshold=FULL_SCAN_KB, memory=cold
        )

    return engine.EdgeConfig(
        vectors={
            name: engine.EdgeVectorParams(
                size=size,
                distance=engine.Distance.Dot,
                hnsw_config=hnsw(spec.m if name in with_graph else 0),
                quantization_config=OF_GRAPHS if name in with_graph else None,
                memory=cold,
            )
            for name, size in equal_lengths.dims(spec).items()
        },
        sparse_vectors={
            name: engine.EdgeSparseVectorParams(full_scan_threshold=_SPARSE_SCAN, memory=cold) for name in spec.sparse
        },
        hnsw_config=hnsw(spec.m),
        # From 1 kB on everything moves into one immutable segment.
        optimizers=engine.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1),
        payload_memory=cold,
        max_search_threads=1,
        wal_enabled=False,
    )
