"""Popularity, neighbours, co-occurrence and content against slow versions in plain Python."""

import math
from dataclasses import replace

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, leave_one_out, log_of, walks
from scipy.sparse import csr_matrix

from molar_eval.models.content import ContentKNN
from molar_eval.models.cooccurrence import OrderedCooccurrence, followers
from molar_eval.models.histories import binary, decayed, known_items
from molar_eval.models.neighbours import similarities
from molar_eval.models.popularity import Popularity, RecentPopularity, decayed_counts
from molar_retrieval.errors import DataError
from molar_retrieval.interactions.matrix import to_csr

RAGGED = [[0, 1, 2, 1], [], [3], [2, 2, 0, 4, 1, 3]]
DAY = 86_400


def test_history_matrices():
    log = log_of(RAGGED, 6)
    before = log.item.copy()
    assert binary(log).toarray().tolist() == [
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
    ]
    expected = np.zeros((4, 6))
    for user, history in enumerate(RAGGED):
        for place, item in enumerate(reversed(history)):
            if place < 3:
                expected[user, item] += 0.5**place
    np.testing.assert_allclose(decayed(log, 0.5, 3).toarray(), expected)
    assert known_items(log).tolist() == [True, True, True, True, True, False]
    assert np.array_equal(log.item, before)  # SciPy sorts in place what it does not own


def test_popularity_counts_training_interactions():
    task, test = leave_one_out(walks())
    scores = Popularity().fit(task, 0).scores(test.inputs())
    for item in range(N_ITEMS):
        count = int((task.training.item == item).sum())
        assert (scores[:, item] == (count or -math.inf)).all()


def test_recent_popularity_halves_with_age_and_survives_centuries():
    times = [0, 10 * DAY, 40_000 * DAY, 40_010 * DAY]
    log = log_of([[0, 1, 1, 2]], 4, times)
    got = decayed_counts(log, 10 * DAY)
    assert got[2] == 0
    assert got[1] == pytest.approx(-1, abs=1e-12)  # the other one of item 1 is forgotten
    assert got[0] == pytest.approx(-4001)  # far below the smallest float, and still a number to rank by
    assert got[3] == -math.inf
    assert np.exp2(decayed_counts(log_of([[0, 0, 1]], 2, [0, DAY, 2 * DAY]), DAY)).tolist() == [0.75, 1.0]


def test_a_short_half_life_follows_the_fashion():
    # Item 0 was taken by many long ago, item 1 by a few lately.
    times = [0, DAY, 2 * DAY] * 30 + [300 * DAY, 301 * DAY, 302 * DAY] * 5
    log = log_of([[0, 2, 3]] * 30 + [[1, 1, 1]] * 5, N_ITEMS, times)
    task = replace(leave_one_out(walks())[0], training=log)
    short, long = (RecentPopularity([{"half_life_days": d}]).fit(task, 0).scores(log)[0] for d in (7, 100_000))
    assert short[1] > short[0]
    assert long[1] < long[0]


def test_recent_popularity_refuses_a_log_without_times():
    task, _ = leave_one_out(walks())
    timeless = replace(task.training, timestamp=np.zeros(len(task.training), np.int64))
    with pytest.raises(DataError, match="times"):
        RecentPopularity().fit(replace(task, training=timeless), 0)


def test_followers_against_counting():
    expected = np.zeros((6, 6))
    for history in RAGGED:
        for at, item in enumerate(history):
            for distance in (1, 2, 3):
                if at + distance < len(history):
                    expected[item, history[at + distance]] += 0.6 ** (distance - 1)
    np.testing.assert_allclose(followers(log_of(RAGGED, 6), 3, 0.6).toarray(), expected, rtol=1e-6)
    assert followers(log_of([[1], [2]], 6), 3, 0.6).nnz == 0


def test_cooccurrence_against_its_formula():
    task, _ = leave_one_out(walks())
    setting = {"window": 4, "decay": 0.8, "shrink": 3, "memory": 0.6}
    history = [5, 9, 5, 7]
    scores = OrderedCooccurrence([setting]).fit(task, 0).scores(log_of([history]))[0]
    counts = np.bincount(task.training.item, minlength=N_ITEMS)
    expected = np.zeros(N_ITEMS)
    for user in range(task.training.n_users):
        walk = task.training.history(user).tolist()
        for at, item in enumerate(walk):
            weight = sum(0.6**place for place, taken in enumerate(reversed(history)) if taken == item)
            for distance in range(1, min(5, len(walk) - at)):
                other = walk[at + distance]
                expected[other] += weight * 0.8 ** (distance - 1) / math.sqrt((counts[item] + 3) * (counts[other] + 3))
    known = counts > 0
    np.testing.assert_allclose(scores[known], expected[known], rtol=1e-4, atol=1e-6)
    assert np.isneginf(scores[~known]).all()


@pytest.fixture(scope="module")
def counts():
    random = np.random.default_rng(1)
    dense = random.poisson(0.3, (40, 12)).astype(np.float64)
    dense[:, 7] = 0
    dense[:, :7] += np.eye(40, 7)
    return csr_matrix(dense)


@pytest.mark.parametrize(
    ("weighting", "recommender"),
    [("cosine", "CosineRecommender"), ("tfidf", "TFIDFRecommender"), ("bm25", "BM25Recommender")],
)
@pytest.mark.filterwarnings("ignore:Method expects CSR")
def test_neighbours_are_those_of_the_library(counts, weighting, recommender):
    import implicit.nearest_neighbours as library

    model = getattr(library, recommender)(K=4)
    model.fit(counts, show_progress=False)
    got = similarities(counts, weighting, 0, 4)
    np.testing.assert_allclose(got.toarray(), model.similarity.toarray(), rtol=1e-6, atol=1e-7)


def test_shrunk_cosine_against_its_formula(counts):
    dense = counts.toarray()
    length = np.sqrt((dense**2).sum(0) + 5 * (dense[dense > 0] ** 2).mean())
    expected = (dense.T @ dense) / np.outer(length, length)
    np.testing.assert_allclose(similarities(counts, "cosine", 5, 12).toarray(), expected, rtol=1e-5, atol=1e-7)
    few = similarities(counts, "cosine", 5, 3)
    assert np.diff(few.indptr).max() == 3
    best = np.sort(expected, axis=1)[:, -3:]
    np.testing.assert_allclose(np.sort(few.toarray(), axis=1)[:, -3:], best, rtol=1e-5, atol=1e-7)


def test_neighbours_read_weights():
    log = log_of([[0, 1], [0, 2]], 3, weights=[1, 5, 1, 0.1])
    similar = similarities(to_csr(log).astype(np.float64), "cosine", 0, 3).toarray()
    assert similar[0, 1] == pytest.approx(1 / math.sqrt(2))
    assert similar[1, 2] == 0


def test_content_is_the_cosine_to_the_decayed_mean():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(N_ITEMS, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[3] = 0
    task, _ = leave_one_out(walks(), content=vectors)
    fitted = ContentKNN([{"last": 2, "decay": 0.5}]).fit(task, 0)
    scores = fitted.scores(log_of([[9, 4, 6], [3], []]))
    taste = vectors[6] + 0.5 * vectors[4]
    expected = vectors @ taste / np.linalg.norm(taste)
    np.testing.assert_allclose(np.delete(scores[0], 3), np.delete(expected, 3), rtol=1e-4, atol=1e-6)
    assert np.isneginf(scores[:, 3]).all()
    assert (np.delete(scores[1:], 3, axis=1) == 0).all()


def test_content_is_needed():
    task, _ = leave_one_out(walks())
    with pytest.raises(DataError, match="content"):
        ContentKNN().fit(task, 0)
