"""Spectral conditioning: unit rows, no common direction, blocks apart, missing stays missing."""

import numpy as np
import pytest
from mapped import is_mapped
from scipy.sparse import csr_matrix

from molar_retrieval.data.text_features import WIDTH, WORDS
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.models import content_features

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
    fitted = content_features.fit(vectors, BLOCKS, 8)
    out = fitted(vectors)
    assert out.shape == (200, 16)
    assert out.dtype == np.float32
    norms = np.linalg.norm(out, axis=1)
    assert np.allclose(norms[20:], 1, atol=1e-5)
    assert not norms[10:20].any()
    assert cosines(vectors[30:]).mean() > 0.8
    assert abs(cosines(out[30:]).mean()) < 0.05


def test_a_missing_block_stays_zero(vectors):
    out = content_features.fit(vectors, BLOCKS, 8)(vectors)
    assert not out[:10, :8].any()
    assert out[:10, 8:].any()
    assert not out[20:30, 8:].any()


def test_blocks_are_reported_where_they_lie(vectors):
    fitted = content_features.fit(vectors, BLOCKS, 8)
    assert [(b.name, b.start, b.stop) for b in fitted.output_blocks] == [
        ("content_text", 0, 8),
        ("content_image", 8, 16),
    ]
    assert fitted.dim == 16


def test_a_new_item_goes_through_the_same_map(vectors):
    fitted = content_features.fit(vectors, BLOCKS, 8)
    assert np.allclose(fitted(vectors[50:51]), fitted(vectors)[50:51], atol=1e-6)


def test_fitting_is_deterministic_and_few_items_are_enough(vectors):
    one, two = content_features.fit(vectors, BLOCKS, 8), content_features.fit(vectors.copy(), BLOCKS, 8)
    assert all(np.array_equal(a, b) for a, b in zip(one.maps, two.maps, strict=True))
    tiny = content_features.fit(vectors[40:42], BLOCKS, 8)(vectors[40:42])
    assert np.isfinite(tiny).all()
    assert not content_features.fit(vectors[:1], BLOCKS, 8)(vectors[:1]).any()


def said(count, seed=1):
    """Attributes of three columns with few values, and three words of sixty; neither for the first five items."""
    random = np.random.default_rng(seed)
    made = np.zeros((count, WIDTH + WORDS), np.float32)
    for column in range(3):
        made[np.arange(count), 12 * column + random.integers(0, 6, count)] = random.choice([-1, 1])
    for item, places in enumerate(random.integers(0, 60, (count, 3))):
        made[item, WIDTH + places] = np.sqrt(1 / 3)
    made[:5] = 0
    return csr_matrix(made)


def test_axes_of_few_items_are_those_of_their_covariance():
    random = np.random.default_rng(1)
    rows = (random.normal(size=(40, 90)) * np.linspace(2, 0.1, 90) + 1).astype(np.float32)
    rows[7], rows[8] = 0, rows[9]  # one has nothing, two are alike
    given = rows[rows.any(axis=1)].astype(np.float64)
    for keep in (5, 64):
        mean, matrix = content_features._map_of_few(rows, keep)
        wanted, axes = content_features._map(39, given.sum(axis=0), given.T @ given, keep)
        assert matrix.shape == axes.shape
        np.testing.assert_allclose(mean, wanted, atol=1e-6)
        np.testing.assert_allclose((given - mean) @ matrix, (given - mean) @ axes, atol=1e-5)
    nothing, none = content_features._map_of_few(rows[:1], 5)
    assert not nothing.any()
    assert none.shape == (90, 1)
    _, alike = content_features._map_of_few(rows[[9, 9, 9]], 5)
    assert np.isfinite(alike).all()


def test_what_is_said_is_a_block_of_its_own_as_long_as_all_others(vectors):
    words = said(200)
    fitted = content_features.fit(vectors, BLOCKS, 8, words)
    out = fitted(vectors, words)
    assert [b.name for b in fitted.output_blocks] == ["content_text", "content_image", content_features.WORDS]
    assert out.shape == (200, fitted.dim)
    assert fitted.width == vectors.shape[1]
    own = np.linalg.norm(out[:, 16:], axis=1)
    assert np.allclose(own[30:], np.sqrt(1 / 2), atol=1e-5)
    assert not own[:5].any(), "of whom nothing is said"
    assert np.allclose(np.linalg.norm(out, axis=1)[20:], 1, atol=1e-5)
    assert np.allclose(own[10:20], 1, atol=1e-5), "words alone, where the encoder saw nothing"
    plain = content_features.fit(vectors, BLOCKS, 8)(vectors)
    assert np.allclose(out[30:, :16], plain[30:] * np.sqrt(1 / 2), atol=1e-5)


def test_beside_vectors_that_know_the_words_attributes_stand_alone(vectors):
    words = said(200)
    fitted = content_features.fit(vectors, BLOCKS, 8, words, ready=True)
    out = fitted(vectors, words)
    assert [b.name for b in fitted.output_blocks][-1] == content_features.ATTRIBUTES
    own = np.linalg.norm(out[30:, fitted.output_blocks[-1].start :], axis=1)
    assert np.allclose(own, np.sqrt(1 / 3), atol=1e-5), "as long as an average block"
    others = words.copy().tolil()
    others[:, WIDTH:] = 1
    assert np.array_equal(fitted(vectors, csr_matrix(others)), out), "other words change nothing"


@pytest.mark.parametrize("ready", [False, True])
def test_items_of_like_attributes_are_near(vectors, ready):
    words = said(200)
    words = csr_matrix(words.multiply(np.arange(WIDTH + WORDS) < WIDTH))
    fitted = content_features.fit(vectors, BLOCKS, 8, words, ready=ready)
    out = fitted(vectors, words)[:, fitted.output_blocks[-1].start :]
    shared = ((words @ words.T).toarray() / 3)[np.triu_indices(200, 1)]
    near = cosines(out)
    assert near[shared > 0.9].mean() > 0.9
    assert near[shared > 0.9].min() > near[shared < 0.1].mean()


def test_a_rare_word_in_common_says_more_than_a_usual_one():
    made = np.zeros((200, WIDTH + WORDS), np.float32)
    made[:, WIDTH] = 1  # all of them
    made[::2, WIDTH + 1] = 1
    made[:2, WIDTH + 2] = made[2:4, WIDTH + 3] = made[100, WIDTH + 4] = 1
    words = csr_matrix(made / np.linalg.norm(made, axis=1, keepdims=True))
    nothing = np.zeros((200, BLOCKS[-1].stop), np.float32)
    fitted = content_features.fit(nothing, BLOCKS, 8, words)
    likeness = (out := fitted(nothing, words)) @ out.T
    assert likeness[0, 1] > 0.5, "one of the two is even, and yet"
    assert likeness[0, 1] > likeness[0, 100], "a word that one item alone has says nothing"
    assert likeness[100, 4:100:2].min() > 0.99


def test_where_nothing_is_said_nothing_changes(vectors):
    nothing = csr_matrix((200, WIDTH + WORDS), dtype=np.float32)
    fitted = content_features.fit(vectors, BLOCKS, 8, nothing)
    assert np.array_equal(fitted(vectors, nothing), content_features.fit(vectors, BLOCKS, 8)(vectors))
    known = content_features.fit(vectors, BLOCKS, 8, said(200))
    assert np.array_equal(known(vectors)[:, :16], content_features.fit(vectors, BLOCKS, 8)(vectors))


def test_few_items_are_enough_for_words(vectors):
    for count in (1, 2, 3):
        words = said(8)[5 : 5 + count]
        out = content_features.fit(vectors[40 : 40 + count], BLOCKS, 8, words)(vectors[40 : 40 + count], words)
        assert np.isfinite(out).all()


@pytest.mark.parametrize("count", [0, 40, 100, 149, 200])
def test_vectors_in_chunks_come_out_as_all_at_once(vectors, monkeypatch, count):
    attributes = said(200)
    fitted = content_features.fit(vectors, BLOCKS, 8, attributes)
    whole = fitted(vectors[:count], attributes[:count])
    monkeypatch.setattr(content_features, "_CHUNK", 50)
    assert fitted(vectors[:count], attributes[:count]) == pytest.approx(whole, abs=1e-6)  # as a processor rounds


def test_what_comes_of_many_is_mapped_from_a_file_without_a_name(vectors, monkeypatch, tmp_path):
    attributes = said(200)
    fitted = content_features.fit(vectors, BLOCKS, 8, attributes)
    whole = fitted(vectors, attributes, folder=tmp_path)
    monkeypatch.setattr(content_features, "_MOST", 100)
    monkeypatch.setattr(content_features, "_CHUNK", 50)
    mapped = fitted(vectors, attributes, folder=tmp_path)
    assert is_mapped(mapped)
    assert mapped == pytest.approx(whole, abs=1e-6)
    mapped[0] = 1  # as torch takes no array that it may not write to
    assert list(tmp_path.iterdir()) == []


def test_words_that_two_items_each_share_have_axes_though_all_are_alike():
    """A thousand singular values that are equal, of which ARPACK finds one vector at a time, or none."""
    pairs = np.arange(2000) // 2
    words = csr_matrix((np.ones(2000, np.float32), (np.arange(2000), WIDTH + pairs)), shape=(2000, WIDTH + WORDS))
    none = np.zeros((2000, 0), np.float32)
    fitted = [content_features.fit(none, (), 64, words)(none, words) for _ in range(2)]
    assert np.array_equal(*fitted)
    there = fitted[0].any(axis=1)
    assert np.allclose((fitted[0][::2] * fitted[0][1::2]).sum(axis=1)[there[::2]], 1, atol=1e-3)
    assert there.sum() >= 64


def test_axes_that_are_iterated_together_are_the_strongest():
    random = np.random.default_rng(0)
    few = (random.random((300, 12)) ** 8 @ random.random((12, 200))).astype(np.float32)
    strength, axes = content_features._together(csr_matrix(few), 5, random)
    _, expected, own = np.linalg.svd(few)
    assert np.allclose(strength[::-1], expected[:5], rtol=1e-4)
    assert np.allclose(np.abs((axes[::-1] * own[:5]).sum(axis=1)), 1, atol=1e-3)
