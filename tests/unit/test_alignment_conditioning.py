"""Spectral conditioning: unit rows, no common direction, blocks apart, missing stays missing."""

import numpy as np
import pytest

from molar_retrieval.alignment import conditioning
from molar_retrieval.encoders.base import Block

BLOCKS = (Block("content_text", 0, 12), Block("content_image", 12, 30))


@pytest.fixture
def vectors():
    random = np.random.default_rng(0)
    made = random.normal(size=(200, 30)) * np.linspace(3, 0.1, 30) + 5  # a strong common direction
    made[:20, :12] = 0
    made[10:30, 12:] = 0
    return (made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def cosines(x):
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    return (unit @ unit.T)[np.triu_indices(len(x), 1)]


def test_rows_are_unit_or_zero_and_the_common_direction_is_gone(vectors):
    fitted = conditioning.fit(vectors, BLOCKS, 8)
    out = fitted(vectors)
    assert out.shape == (200, 16)
    assert out.dtype == np.float32
    norms = np.linalg.norm(out, axis=1)
    assert np.allclose(norms[20:], 1, atol=1e-5)
    assert not norms[10:20].any()
    assert cosines(vectors[30:]).mean() > 0.8
    assert abs(cosines(out[30:]).mean()) < 0.05


def test_a_missing_block_stays_zero(vectors):
    out = conditioning.fit(vectors, BLOCKS, 8)(vectors)
    assert not out[:10, :8].any()
    assert out[:10, 8:].any()
    assert not out[20:30, 8:].any()


def test_blocks_are_reported_where_they_lie(vectors):
    fitted = conditioning.fit(vectors, BLOCKS, 8)
    assert [(b.name, b.start, b.stop) for b in fitted.output_blocks] == [
        ("content_text", 0, 8),
        ("content_image", 8, 16),
    ]
    assert fitted.dim == 16


def test_a_new_item_goes_through_the_same_map(vectors):
    fitted = conditioning.fit(vectors, BLOCKS, 8)
    assert np.allclose(fitted(vectors[50:51]), fitted(vectors)[50:51], atol=1e-6)


def test_fitting_is_deterministic_and_few_items_are_enough(vectors):
    one, two = conditioning.fit(vectors, BLOCKS, 8), conditioning.fit(vectors.copy(), BLOCKS, 8)
    assert all(np.array_equal(a, b) for a, b in zip(one.maps, two.maps, strict=True))
    tiny = conditioning.fit(vectors[40:42], BLOCKS, 8)(vectors[40:42])
    assert np.isfinite(tiny).all()
    assert not conditioning.fit(vectors[:1], BLOCKS, 8)(vectors[:1]).any()
