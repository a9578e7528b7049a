"""Items as points of a collection, and back.

A server prints a 32-bit number with as few digits as tell it from others, so only as 32 bits it is what was stored.
"""

import json
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from qdrant_client import models

from molar_indexes import equal_lengths
from molar_indexes.server.filters import from_payload, to_payload
from molar_retrieval.ranking.index_protocol import IndexSpec, SparseVector, StoredItem, Vector

_NUMBER = 25
"""Most bytes of a float32 in JSON, with its comma."""
_INDEX = 11
_AROUND = 200
"""Bytes of a point in JSON beside its numbers and payload: its id, names, brackets."""


def to_point(spec: IndexSpec, item: StoredItem) -> models.PointStruct:
    """The point of an item whose payload is clean."""
    dense = {name: equal_lengths.stored(spec, name, vector) for name, vector in item.vectors.items()}
    payload = to_payload(item.item_id, item.payload)
    return models.PointStruct(id=item.row, vector=vectors(dense, item.sparse), payload=payload)


def vectors(dense: Mapping[str, Vector], sparse: Mapping[str, SparseVector]) -> dict[str, Any]:
    """Named vectors in the client's words."""
    return {name: list(vector) for name, vector in dense.items()} | {
        name: models.SparseVector(indices=list(vector.indices), values=list(vector.values))
        for name, vector in sparse.items()
    }


def to_item(spec: IndexSpec, record: models.Record) -> StoredItem:
    """The item of a point."""
    item_id, payload = from_payload(record.payload or {})
    dense, sparse = split(record)
    given = {name: equal_lengths.given(spec, name, vector) for name, vector in dense.items()}
    return StoredItem(int(record.id), item_id, payload, given, sparse)


def split(record: models.Record) -> tuple[dict[str, list[float]], dict[str, SparseVector]]:
    """The dense and the sparse vectors of a point."""
    dense: dict[str, list[float]] = {}
    sparse: dict[str, SparseVector] = {}
    named: Any = record.vector if isinstance(record.vector, dict) else {}
    for name, vector in named.items():
        if isinstance(vector, models.SparseVector):
            pairs = sorted(zip(vector.indices, float32(vector.values), strict=True))
            sparse[name] = SparseVector([index for index, _ in pairs], [value for _, value in pairs])
        else:
            dense[name] = float32(vector)
    return dense, sparse


def float32(numbers: Iterable[float]) -> list[float]:
    """The nearest 32-bit numbers."""
    return array("f", numbers).tolist()


def size(point: models.PointStruct) -> int:
    """At least as many bytes as the point has in a request."""
    found = _AROUND + len(json.dumps(point.payload))
    named: Any = point.vector
    for name, vector in named.items():
        sparse = isinstance(vector, models.SparseVector)
        found += len(name) + 40 + ((_NUMBER + _INDEX) * len(vector.indices) if sparse else _NUMBER * len(vector))
    return found
