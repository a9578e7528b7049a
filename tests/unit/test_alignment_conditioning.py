"""Spectral conditioning: unit rows, no common direction, blocks apart, missing stays missing."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from molar_retrieval.alignment import conditioning
from molar_retrieval.encoders.base import VectorBlock

BLOCKS = (VectorBlock("content_text", 0, 12), VectorBlock("content_image", 12, 30))


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


def hashed(count, seed=1):
    """Attributes of three columns with few values; none for the first five items."""
    random = np.random.default_rng(seed)
    made = np.zeros((count, 40), np.float32)
    for column in range(3):
        made[np.arange(count), 12 * column + random.integers(0, 6, count)] = random.choice([-1, 1])
    made[:5] = 0
    return csr_matrix(made)


def test_attributes_are_a_block_of_their_own_as_long_as_an_average_one(vectors):
    attributes = hashed(200)
    fitted = conditioning.fit(vectors, BLOCKS, 8, attributes)
    out = fitted(vectors, attributes)
    assert [b.name for b in fitted.output_blocks] == ["content_text", "content_image", conditioning.ATTRIBUTES]
    assert out.shape == (200, fitted.dim)
    own = np.linalg.norm(out[:, 16:], axis=1)
    assert np.allclose(own[30:], np.sqrt(1 / 3), atol=1e-5)  # beside two blocks of the encoder
    assert not own[:5].any(), "who has none says nothing"
    assert np.allclose(np.linalg.norm(out, axis=1)[20:], 1, atol=1e-5)
    assert np.allclose(own[10:20], 1, atol=1e-5), "attributes alone, where the encoder saw nothing"
    plain = conditioning.fit(vectors, BLOCKS, 8)(vectors)
    assert np.allclose(out[30:, :16], plain[30:] * np.sqrt(2 / 3), atol=1e-5)


def test_items_of_like_attributes_are_near(vectors):
    attributes = hashed(200)
    out = conditioning.fit(vectors, BLOCKS, 8, attributes)(vectors, attributes)[:, 16:]
    shared = ((attributes @ attributes.T).toarray() / 3)[np.triu_indices(200, 1)]
    near = cosines(out)
    assert near[shared > 0.9].mean() > 0.9
    assert near[shared > 0.9].min() > near[shared < 0.1].mean()


def test_no_attributes_at_all_change_nothing(vectors):
    nothing = csr_matrix((200, 40), dtype=np.float32)
    fitted = conditioning.fit(vectors, BLOCKS, 8, nothing)
    assert np.array_equal(fitted(vectors, nothing), conditioning.fit(vectors, BLOCKS, 8)(vectors))
    known = conditioning.fit(vectors, BLOCKS, 8, hashed(200))
    assert np.array_equal(known(vectors)[:, :16], conditioning.fit(vectors, BLOCKS, 8)(vectors))


@pytest.mark.parametrize("count", [0, 40, 100, 149, 200])
def test_vectors_in_chunks_come_out_as_all_at_once(vectors, monkeypatch, count):
    attributes = hashed(200)
    fitted = conditioning.fit(vectors, BLOCKS, 8, attributes)
    whole = fitted(vectors[:count], attributes[:count])
    monkeypatch.setattr(conditioning, "_CHUNK", 50)
    assert np.array_equal(fitted(vectors[:count], attributes[:count]), whole)
