"""What only a real server does: the gaps of qdrant-client's in-process mode, by name.

Each is a test that runs where ``MOLAR_TEST_QDRANT_URL`` names a server, and is skipped elsewhere. In process there are
no graphs, no short copies of vectors, no payload indexes, no shards and no copies on other nodes. Filters on fused
queries, a gap of older versions, are applied since 1.20; our queries fuse nothing anyway.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from served import REAL, URL, Shelf, shelf

from molar_indexes.publish_check import LEAST, WORSE, scanning, widened
from molar_indexes.server.points import Layout
from molar_indexes.server.push import wait_for_green
from molar_retrieval.ranking.filters import Equals
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec
from molar_retrieval.rng import generator

pytestmark = [
    pytest.mark.skipif(URL is None, reason="MOLAR_TEST_QDRANT_URL names no server"),
    pytest.mark.slow,
]
DIM, N = 64, 80_000
SPEC = IndexSpec({"aligned": DIM}, {"colour": "keyword"}, lengths={"aligned": 20.0})


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return generator(0, "server only").normal(size=(N, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def real() -> Iterator[Shelf]:
    with shelf(REAL) as opened:
        yield opened


def items(vectors: np.ndarray) -> Iterator[IndexItem]:
    for row, vector in enumerate(vectors):
        yield IndexItem(row, f"item {row}", {"aligned": vector.tolist()}, {"colour": "red" if row % 3 else "blue"})


@pytest.mark.parametrize("quantisation", ["none", "scalar"])
def test_graphs_and_short_copies_find_what_a_push_promises(real: Shelf, vectors: np.ndarray, quantisation: str) -> None:
    """Of vectors at random the graphs of a 1.19.0 found 897 of 1,000, with 8 bits 869: a push widens such searches.

    It promises what it measures, for queries of its own and the whole catalogue. Of others, and under a condition, a
    graph may find somewhat less.
    """
    index = real.index(SPEC, items(vectors), Layout(quantisation=quantisation))  # type: ignore[arg-type]
    asked = [generator(seed, "a push asks").normal(size=DIM).astype(np.float32).tolist() for seed in range(32)]
    reach = widened(index, scanning(index), {"aligned": asked}, print)["aligned"]
    assert reach.found >= LEAST
    index = index.searching({"aligned": reach.ef})
    info = real.client.get_collection(real.made[-1])
    assert info.indexed_vectors_count
    assert (info.config.params.vectors["aligned"].quantization_config is None) == (quantisation == "none")
    found = {None: 0, "blue": 0}
    for seed in range(50):
        query = generator(seed, "server query").normal(size=DIM).astype(np.float32)
        for where in (None, Equals("colour", "blue")):
            scores = vectors @ query
            if where is not None:
                scores[np.arange(N) % 3 != 0] = -np.inf
            best = index.top("aligned", query.tolist(), 10, where=where)
            assert [score for _, score in best] == pytest.approx(scores[[row for row, _ in best]].tolist(), abs=1e-4)
            best_rows = set(np.argsort(-scores)[:10].tolist())
            found["blue" if where else None] += len({row for row, _ in best} & best_rows)
    assert min(found.values()) >= (LEAST - WORSE) * 50 * 10, found


def test_payload_indexes_shards_and_copies(real: Shelf) -> None:
    real.index(replace(SPEC, dims={"aligned": DIM, "whitened": DIM}), [], Layout(shards=2, on_disk=True))
    info = real.client.get_collection(real.made[-1])
    assert {"colour", "item_id"} <= {key.strip('"') for key in info.payload_schema}
    assert info.config.params.shard_number == 2
    assert info.config.params.vectors["aligned"].on_disk
    assert info.config.params.vectors["whitened"].hnsw_config.m == SPEC.m
    assert info.config.params.vectors["aligned"].hnsw_config.m == 0  # the others are searched in its place
    wait_for_green(real.connection, real.made[-1], print)
