"""What other settings of the index would cost."""

import numpy as np
import pytest

from molar_indexes.what_if import Variation, WhatIf

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def vectors():
    random = np.random.default_rng(0)
    centres = random.standard_normal((20, 32))
    return (centres[random.integers(20, size=2000)] + 0.5 * random.standard_normal((2000, 32))).astype(np.float32)


def recall(folder, vectors, variation, queries=50, k=20, lengthen=True):
    folder.mkdir()
    found = 0
    with WhatIf(folder, vectors, variation, lengthen=lengthen) as index:
        for query in range(queries):
            hidden = [query, query + 1]
            scores = vectors @ vectors[query]
            scores[hidden] = -np.inf
            rows = index.search(vectors[query].tolist(), k, hidden)
            assert not set(rows) & set(hidden)
            found += len(set(rows) & set(np.argsort(-scores)[:k].tolist()))
    return found / (queries * k)


def test_a_scan_loses_nothing_and_every_saving_has_its_price(vectors, tmp_path):
    scan = recall(tmp_path / "scan", vectors, Variation(graph=False))
    wide = recall(tmp_path / "wide", vectors, Variation(ef=256))
    narrow = recall(tmp_path / "narrow", vectors, Variation(m=4, ef_construct=8, ef=20))
    scalar = recall(tmp_path / "scalar", vectors, Variation(graph=False, quantisation="scalar"))
    binary = recall(tmp_path / "binary", vectors, Variation(graph=False, quantisation="binary"))
    assert scan == 1
    assert wide > 0.9
    assert narrow < wide
    assert 0.95 < scalar <= 1
    assert binary < scalar


def test_popular_items_do_not_hide_the_others_from_a_graph(tmp_path):
    """Unit vectors beside a number for popularity, as `molar align` makes them."""
    random = np.random.default_rng(1)
    unit = random.standard_normal((4000, 32))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    vectors = np.concatenate([unit, 3 * random.random((4000, 1)) ** 8], axis=1).astype(np.float32)
    bare = recall(tmp_path / "as they are", vectors, Variation(m=16, ef_construct=128), lengthen=False)
    assert recall(tmp_path / "one length", vectors, Variation(m=16, ef_construct=128)) > max(0.98, bare + 0.05)
