"""How a collection is laid out on a server: vectors, payload indexes, shards, copies, disk, quantisation."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from qdrant_client import models

from molar_indexes import equal_lengths
from molar_indexes.filters import quoted
from molar_indexes.records import ITEM_ID
from molar_retrieval.ranking.index_protocol import SCAN, IndexSpec
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import IndexSettings

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
