"""How much memory and disk a collection takes, from the shape of a generation. Arithmetic; no server is asked.

Counted are the numbers themselves, their short copies, the links of graphs, sparse vectors and payloads. Ids, versions,
payload indexes and segments that are being rebuilt come on top; Qdrant advises to plan half as much again for them
(https://qdrant.tech/documentation/operations/capacity-planning/), which :data:`SLACK` is.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from molar_indexes import equal_lengths
from molar_indexes.generations import Generation
from molar_retrieval import columns
from molar_retrieval.ranking.candidates import MOST_SCANNED

Quantisation = Literal["none", "scalar", "binary"]
QUANTISATIONS: tuple[Quantisation, ...] = ("none", "scalar", "binary")
ITEMS = (1_000_000, 10_000_000, 100_000_000)
SLACK = 1.5
PER_ITEM = ["vector", ">of the items", ">numbers", ">bytes", ">8 bits", ">1 bit", ">graph"]
TOTALS = ["items", "quantisation", ">disk", ">memory", ">memory, on_disk"]
_SAMPLE = 500
_BLOCK = 16
"""Short copies are stored in blocks of so many bytes."""
_POSTING, _ENTRY = 12, 8
"""Bytes of a sparse number in the inverted index (item, number, largest number behind it) and as stored."""


@dataclass(frozen=True)
class ItemFootprint:
    """What an item of a generation holds, on average: ``payload`` bytes as JSON, and graphs of ``m`` edges per node.

    By vector: numbers that are stored of a dense one, the share of the items that have it (0 to 1), numbers of a sparse
    one.
    """

    dims: Mapping[str, int]
    share: Mapping[str, float]
    sparse: Mapping[str, float]
    payload: float
    m: int

    def among(self, items: int) -> "ItemFootprint":
        """The same in a collection of so many items: of many, ``whitened`` are searched in place of ``aligned``."""
        own = self.dims.get(columns.ALIGNED, 0)
        if columns.WHITENED in self.dims or items * own <= MOST_SCANNED:
            return self
        dims = {**self.dims, columns.WHITENED: own}
        return replace(self, dims=dims, share={**self.share, columns.WHITENED: self.share[columns.ALIGNED]})

    @property
    def searched(self) -> dict[str, float]:
        """Vectors that have graphs and short copies, with the share of the items that have them."""
        instead = {columns.ALIGNED} if columns.WHITENED in self.dims else set()
        return {name: share for name, share in self.share.items() if name not in instead}


@dataclass(frozen=True)
class CollectionSize:
    """Bytes of a whole collection, one copy of it, without slack; the vectors are float32, ``short`` their copies."""

    vectors: float
    short: float
    graphs: float
    sparse: float
    payload: float

    @property
    def disk(self) -> float:
        """All of it."""
        return self.vectors + self.short + self.graphs + self.sparse + self.payload

    def memory(self, *, on_disk: bool) -> float:
        """What is held in memory, with vectors, sparse index and payloads there or on disk."""
        held = self.short + self.graphs
        return held if on_disk else held + self.vectors + self.sparse + self.payload


@dataclass(frozen=True)
class SizeForecast:
    """What collections of items like those of a generation take, for some numbers of items."""

    footprint: ItemFootprint
    items: tuple[int, ...] = ITEMS

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        sizes = {
            count: {q: asdict(size_of(self.footprint, count, q)) | {"slack": SLACK} for q in QUANTISATIONS}
            for count in self.items
        }
        return {"shape": asdict(self.footprint), "bytes": sizes}


def footprint_of(generation: Generation) -> ItemFootprint:
    """The shape of a generation, by a sample of up to 500 items."""
    spec, count = generation.spec, len(generation.index)
    rows = range(0, count, max(1, count // _SAMPLE))
    items = generation.index.fetch(rows, vectors=[*spec.dims, *spec.sparse])
    known = max(1, len(items))
    return ItemFootprint(
        equal_lengths.dims(spec),
        {name: sum(name in item.vectors for item in items) / known for name in spec.dims},
        {name: sum(len(i.sparse[name].indices) for i in items if name in i.sparse) / known for name in spec.sparse},
        sum(len(json.dumps(dict(i.payload), ensure_ascii=False).encode()) + len(i.item_id) for i in items) / known,
        spec.m,
    )


def short_bytes(dim: int, quantisation: Quantisation) -> int:
    """Bytes of a vector's short copy."""
    if quantisation == "none":
        return 0
    whole = dim if quantisation == "scalar" else -(-dim // 8)
    return -(-whole // _BLOCK) * _BLOCK + (4 if quantisation == "scalar" else 0)  # 8 bits need an offset


def graph_bytes(m: int) -> float:
    """Bytes of a node's links: twice ``m`` on the lowest level, and on average 1 / (m - 1) times ``m`` above."""
    return 4 * (2 * m + m / (m - 1))


def size_of(footprint: ItemFootprint, items: int, quantisation: Quantisation) -> CollectionSize:
    """The size of a collection of so many items."""
    footprint = footprint.among(items)
    dims, with_graph = footprint.dims, footprint.searched
    return CollectionSize(
        vectors=items * sum(4 * dims[name] * share for name, share in footprint.share.items()),
        short=items * sum(short_bytes(dims[name], quantisation) * share for name, share in with_graph.items()),
        graphs=items * graph_bytes(footprint.m) * sum(with_graph.values()),
        sparse=items * (_POSTING + _ENTRY) * sum(footprint.sparse.values()),
        payload=items * footprint.payload,
    )


def per_item(footprint: ItemFootprint) -> list[list[str]]:
    """Rows of a table: vector, share of the items, numbers, bytes in float32, 8 bits and 1 bit, bytes of the graph."""
    rows = []
    for name, dim in footprint.dims.items():
        searched = name in footprint.searched
        short = [f"{short_bytes(dim, q):,}" if searched else "–" for q in ("scalar", "binary")]
        graph = f"{graph_bytes(footprint.m):,.0f}" if searched else "–"
        rows.append([name, f"{footprint.share[name]:.0%}", f"{dim:,}", f"{4 * dim:,}", *short, graph])
    for name, entries in footprint.sparse.items():
        rows.append([f"{name}, sparse", "", f"{entries:,.0f}", f"{(_POSTING + _ENTRY) * entries:,.0f}", "–", "–", "–"])
    rows.append(["payload", "", "", f"{footprint.payload:,.0f}", "–", "–", "–"])
    return rows


def totals(footprint: ItemFootprint, counts: tuple[int, ...] = ITEMS) -> list[list[str]]:
    """Rows of a table: items, quantisation, disk, memory, memory with vectors on disk; with slack, one copy."""
    rows = []
    for count in counts:
        for quantisation in QUANTISATIONS:
            size = size_of(footprint, count, quantisation)
            amounts = size.disk, size.memory(on_disk=False), size.memory(on_disk=True)
            rows.append([f"{count:,}", quantisation, *(f"{SLACK * amount / 1e9:,.1f} GB" for amount in amounts)])
    return rows
