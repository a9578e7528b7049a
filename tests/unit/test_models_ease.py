"""EASE and item neighbours against explicit formulas and the library's own recommenders."""

import math

import numpy as np
import pytest
from eval_model_tasks import log_of, walks
from scipy.sparse import csr_matrix

from molar_retrieval.data.interactions import to_csr
from molar_retrieval.errors import DataError
from molar_retrieval.models import ease
from molar_retrieval.models.ease import EASECounts, item_knn, solve, solve_by_users
from molar_retrieval.models.item_item import binary


@pytest.fixture(scope="module")
def log():
    return log_of(walks(users=120))


def test_ease_is_ridge_regression_on_all_other_items(log):
    taken = binary(log).toarray()[:, :20].astype(np.float64)
    weights = solve((taken.T @ taken).astype(np.float32), 7.0)
    for item in range(20):
        others = np.delete(taken, item, axis=1)
        ridge = np.linalg.solve(others.T @ others + 7 * np.eye(19), others.T @ taken[:, item])
        np.testing.assert_allclose(np.delete(weights[:, item], item), ridge, rtol=1e-3, atol=1e-5)
    assert (np.diag(weights) == 0).all()


def test_ease_is_its_closed_form_over_the_items_that_occur(log):
    model = EASECounts.of(log)
    assert model.columns.tolist() == list(range(28))
    taken = binary(log).toarray()[:, :28].astype(np.float64)
    before = model.gram.copy()
    np.testing.assert_array_equal(before, taken.T @ taken)
    inverse = np.linalg.inv(before + 3 * np.eye(28))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(model.weights(3), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(model.gram, before)  # the next regularisation needs it


@pytest.mark.parametrize("regularisation", [0.5, 10.0, 500.0])
def test_ease_by_a_matrix_of_few_users_is_the_same(regularisation, monkeypatch):
    random = np.random.default_rng(3)
    taken = csr_matrix((random.random((40, 120)) < 0.1).astype(np.float32))
    gram = (taken.T @ taken).toarray()
    expected = solve(gram, regularisation)
    np.testing.assert_allclose(solve_by_users(taken, regularisation), expected, rtol=1e-3, atol=2e-5)
    model = EASECounts(np.arange(120), gram, taken)
    monkeypatch.setattr(ease, "solve", None)  # not asked
    np.testing.assert_allclose(model.weights(regularisation), expected, rtol=1e-3, atol=2e-5)
    assert EASECounts(np.arange(120), gram).taken is None


def test_ease_refuses_what_would_take_hours(log, monkeypatch):
    monkeypatch.setattr(ease, "MAX_ITEMS", 27)
    with pytest.raises(DataError, match="28 × 28"):
        EASECounts.of(log)


def test_ease_says_when_there_is_no_solution():
    with pytest.raises(DataError, match="positive definite"):
        solve(np.array([[1, 2], [2, 1]], np.float32), 0.1)


@pytest.fixture(scope="module")
def counts():
    """A log with repetitions in which item 7 does not occur."""
    random = np.random.default_rng(1)
    dense = random.poisson(0.3, (40, 12))
    dense[:, 7] = 0
    dense[:, :7] += np.eye(40, 7, dtype=int)
    return log_of([np.repeat(np.arange(12), row).tolist() for row in dense], 12)


@pytest.mark.parametrize(
    ("weighting", "recommender"),
    [("cosine", "CosineRecommender"), ("tfidf", "TFIDFRecommender"), ("bm25", "BM25Recommender")],
)
@pytest.mark.filterwarnings("ignore:Method expects CSR")
def test_neighbours_are_those_of_the_library(counts, weighting, recommender):
    import implicit.nearest_neighbours as library

    model = getattr(library, recommender)(K=4)
    model.fit(to_csr(counts).astype(np.float64), show_progress=False)
    got = item_knn(counts, weighting, 0, 4)
    np.testing.assert_allclose(got.toarray(), model.similarity.toarray(), rtol=1e-6, atol=1e-7)
    assert got.dtype == np.float32


def test_neighbours_are_the_same_however_many_users_are_weighed_at_a_time(counts, monkeypatch):
    whole = item_knn(counts, "tfidf", 20, 4)
    monkeypatch.setattr(ease, "_USERS", 7)
    assert (item_knn(counts, "tfidf", 20, 4) != whole).nnz == 0


def test_shrunk_cosine_against_its_formula(counts):
    dense = to_csr(counts).toarray().astype(np.float64)
    length = np.sqrt((dense**2).sum(0) + 5 * (dense[dense > 0] ** 2).mean())
    expected = (dense.T @ dense) / np.outer(length, length)
    np.testing.assert_allclose(item_knn(counts, "cosine", 5, 12).toarray(), expected, rtol=1e-5, atol=1e-7)
    few = item_knn(counts, "cosine", 5, 3)
    assert np.diff(few.indptr).max() == 3
    best = np.sort(expected, axis=1)[:, -3:]
    np.testing.assert_allclose(np.sort(few.toarray(), axis=1)[:, -3:], best, rtol=1e-5, atol=1e-7)


def test_neighbours_read_weights():
    log = log_of([[0, 1], [0, 2]], 3, weights=[1, 5, 1, 0.1])
    similar = item_knn(log, "cosine", 0, 3).toarray()
    assert similar[0, 1] == pytest.approx(1 / math.sqrt(2))
    assert similar[1, 2] == 0


def test_an_item_that_nobody_took_has_no_neighbours(counts):
    for weighting in ("cosine", "tfidf", "bm25"):
        similar = item_knn(counts, weighting, 20, 12).toarray()
        assert np.isfinite(similar).all()
        assert not similar[7].any()
        assert not similar[:, 7].any()
