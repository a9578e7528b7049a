"""The arithmetic of a collection's size, by hand."""

import json

import pytest

from molar_indexes.generations import open_generation
from molar_indexes.server.sizing import (
    SLACK,
    ItemFootprint,
    SizeForecast,
    footprint_of,
    graph_bytes,
    per_item,
    short_bytes,
    size_of,
    totals,
)
from molar_retrieval.workspace.artefacts import Workspace

SHAPE = ItemFootprint(
    {"aligned": 129, "content": 64}, {"aligned": 0.5, "content": 1.0}, {"item_item": 40.0}, 100.0, m=32
)


@pytest.mark.parametrize(
    ("dim", "quantisation", "expected"),
    [
        (128, "none", 0),
        (128, "scalar", 132),
        (129, "scalar", 148),
        (128, "binary", 16),
        (129, "binary", 32),
    ],
)
def test_short_copies(dim, quantisation, expected):
    assert short_bytes(dim, quantisation) == expected


def test_a_collection_is_the_sum_of_its_items():
    size = size_of(SHAPE, 1000, "scalar")
    assert size.vectors == 1000 * (4 * 129 * 0.5 + 4 * 64)
    assert size.short == 1000 * (148 * 0.5 + short_bytes(64, "scalar"))
    assert size.graphs == pytest.approx(1000 * 1.5 * (4 * 64 + 4 * 32 / 31))
    assert size.sparse == 1000 * 20 * 40
    assert size.payload == 100_000
    assert size.disk == pytest.approx(size.memory(on_disk=False))
    assert size.memory(on_disk=True) == size.short + size.graphs
    assert size_of(SHAPE, 1000, "none").memory(on_disk=True) == size.graphs


def test_of_many_items_the_turned_vectors_are_searched_and_lie_beside_the_others():
    few, many = size_of(SHAPE, 32_000, "scalar"), size_of(SHAPE, 64_000, "scalar")
    assert many.vectors - 2 * few.vectors == 64_000 * 4 * 129 * 0.5
    assert (many.short, many.graphs) == (2 * few.short, 2 * few.graphs)
    assert SHAPE.among(64_000).searched == {"content": 1.0, "whitened": 0.5}


def test_tables():
    rows = {row[0]: row for row in per_item(SHAPE)}
    assert rows["aligned"] == ["aligned", "50%", "129", "516", "148", "32", f"{graph_bytes(32):,.0f}"]
    assert {row[0]: row for row in per_item(SHAPE.among(64_000))}["aligned"][4:] == ["–", "–", "–"]
    assert rows["item_item, sparse"][2:4] == ["40", "800"]
    (first, *_) = totals(SHAPE, (1_000_000,))
    assert first[:3] == ["1,000,000", "none", f"{SLACK * size_of(SHAPE, 10**6, 'none').disk / 1e9:,.1f} GB"]


def test_the_shape_is_that_of_the_items(trained):
    with open_generation(Workspace.open(trained.workspace)) as generation:
        shape = footprint_of(generation)
        rows = range(len(generation.index))
        items = generation.index.fetch(rows, vectors=["aligned", "cold_start", "words"])
    assert shape.share["aligned"] + shape.share["cold_start"] == pytest.approx(1.0)
    assert shape.share["aligned"] == pytest.approx(sum("aligned" in i.vectors for i in items) / len(items))
    assert shape.sparse["words"] == pytest.approx(sum(len(i.sparse["words"].indices) for i in items) / len(items))
    assert shape.dims["aligned"] == generation.spec.dims["aligned"] + 1  # the number that brings all to one length
    assert 50 < shape.payload < 2000
    assert ItemFootprint(**json.loads(json.dumps(SizeForecast(shape).to_dict()))["shape"]) == shape
