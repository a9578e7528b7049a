"""Items as points of a collection, and back.

A server prints a 32-bit number with as few digits as tell it from others, so only as 32 bits it is what was stored.
"""

import json
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from sys import float_info
from typing import Any, Literal, NoReturn, Self

from qdrant_client import models

from molar_indexes import equal_lengths
from molar_indexes.filters import FilterConstructors, field_of, key_of, quoted
from molar_indexes.records import ITEM_ID
from molar_retrieval.errors import RequestError
from molar_retrieval.ranking.index_protocol import SCAN, IndexSpec, SparseVector, StoredItem, Vector
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import IndexSettings

ROW = "%row"
"""The payload key that holds a user's number; no field's key is like it."""
ROW_PATH = f'"{ROW}"'
ITEM_ID_PATH = quoted(ITEM_ID)
_SUBSTRINGS = (1, 20)
"""The version from which on a server finds parts of texts."""
FULL_SCAN_KB = 16_384
"""Where fewer vectors than fill this fulfil a condition, a server scans them instead of its graph."""
_OVERSAMPLING = 2.0
"""So many times what is wanted is found by the short copies and scored again by the whole vectors."""
_KINDS = {
    "keyword": models.PayloadSchemaType.KEYWORD,
    "integer": models.PayloadSchemaType.INTEGER,
    "float": models.PayloadSchemaType.FLOAT,
    "bool": models.PayloadSchemaType.BOOL,
}
_NUMBER = 25
"""Most bytes of a float32 in JSON, with its comma."""
_INDEX = 11
_AROUND = 200
"""Bytes of a point in JSON beside its numbers and payload: its id, names, brackets."""


def to_payload(item_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored for a cleaned payload."""
    return {ITEM_ID: item_id, **{key_of(field): value for field, value in payload.items()}}


def from_payload(stored: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The item's id and its payload, as they were given."""
    fields = dict(stored)
    item_id = fields.pop(ITEM_ID)
    return item_id, {field_of(key): value for key, value in fields.items()}


def among(wanted: Iterable[int]) -> models.HasIdCondition:
    """One of the items at some rows."""
    return models.HasIdCondition(has_id=sorted(wanted))


def items_between(first: int, last: int) -> models.Filter:
    """Items at rows from one up to another."""
    return models.Filter(must=[among(range(first, last))])


def users_between(first: int, last: int) -> models.Filter:
    """Users with numbers from one up to another."""
    within = models.FieldCondition(key=ROW_PATH, range=models.Range(gte=first, lt=last))
    return models.Filter(must=[within])


def named(item_ids: Sequence[str]) -> models.Filter:
    """Items with one of some ids."""
    return models.Filter(must=[models.FieldCondition(key=ITEM_ID_PATH, match=models.MatchAny(any=list(item_ids)))])


def _field(field: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=quoted(field), **condition)


SERVED = FilterConstructors(
    filter=models.Filter,
    equals=lambda field, value: _field(field, match=models.MatchValue(value=value)),
    among=lambda field, words: _field(field, match=models.MatchAny(any=words)),
    within=lambda field, bounds: _field(field, range=models.Range(**bounds)),
    contains=lambda field, part: _field(field, match=models.MatchSubstring(substring=part)),
    empty=lambda field: models.IsEmptyCondition(is_empty=models.PayloadField(key=quoted(field))),
    rows=among,
    largest=float_info.max,  # JSON has no infinities
)
"""Conditions of qdrant-client."""


def understood(version: str) -> FilterConstructors:
    """The conditions that a server of a version takes: RequestError comes of one that is newer than it."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) >= _SUBSTRINGS:
        return SERVED

    def refused(field: str, part: str) -> NoReturn:
        needed = ".".join(map(str, _SUBSTRINGS))
        raise RequestError(
            f"the condition `contains`, here on {field!r}, needs a Qdrant server of {needed}; this one is of {version}",
            "update the server, or ask the workspace: --index local",
        )

    return replace(SERVED, contains=refused)


@dataclass(frozen=True)
class Layout:
    """What of a collection the settings decide and its content does not; without ``shards`` the server decides."""

    shards: int | None = None
    replicas: int = 1
    on_disk: bool = False
    quantisation: Literal["none", "scalar", "binary"] = "none"

    @classmethod
    def of(cls, settings: IndexSettings) -> Self:
        """The layout that settings ask for."""
        return cls(settings.shards, settings.replicas, settings.on_disk, settings.quantisation)

    @property
    def mark(self) -> str:
        """Eight characters that differ between layouts."""
        return fingerprint.of_json(asdict(self))[:8]

    def collection(self, spec: IndexSpec, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of ``create_collection``; no graphs yet, they are built once all points are there."""
        return {
            "vectors_config": {
                name: models.VectorParams(
                    size=size,
                    distance=models.Distance.DOT,
                    on_disk=self.on_disk,
                    hnsw_config=models.HnswConfigDiff(
                        m=0, payload_m=0, ef_construct=spec.ef_construct, full_scan_threshold=FULL_SCAN_KB
                    ),
                    quantization_config=self._short() if name in searched(spec) else None,
                )
                for name, size in equal_lengths.dims(spec).items()
            },
            "sparse_vectors_config": {
                name: models.SparseVectorParams(index=models.SparseIndexParams(on_disk=self.on_disk))
                for name in spec.sparse
            },
            "shard_number": self.shards,
            "replication_factor": self.replicas,
            "on_disk_payload": self.on_disk,
            "metadata": dict(metadata),
        }

    def search(self, candidates: int, *, filtered: bool) -> models.SearchParams:
        """How a dense vector is searched, with so many candidates or by scanning."""
        short = models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING)
        return models.SearchParams(
            hnsw_ef=candidates or None,
            exact=candidates == SCAN,
            quantization=None if self.quantisation == "none" else short,
            # Looks past what the condition leaves out, where that is more than four items in ten.
            acorn=models.AcornSearchParams(enable=True, max_selectivity=0.6) if filtered else None,
        )

    def _short(self) -> models.ScalarQuantization | models.BinaryQuantization | None:
        if self.quantisation == "scalar":
            settings = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
            return models.ScalarQuantization(scalar=settings)
        if self.quantisation == "binary":
            return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
        return None


def searched(spec: IndexSpec) -> set[str]:
    """Names of the dense vectors that deserve a graph."""
    return spec.searched


def graphs(spec: IndexSpec) -> dict[str, models.VectorParamsDiff]:
    """The change of a collection that has its graphs built."""
    built = models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=spec.m))
    return dict.fromkeys(sorted(searched(spec)), built)


def payload_indexes(spec: IndexSpec) -> dict[str, models.PayloadSchemaType]:
    """Kind of the index of each payload path; of the ids as well, by which items are looked up."""
    return {quoted(field): _KINDS[kind] for field, kind in {ITEM_ID: "keyword", **spec.fields}.items()}


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
