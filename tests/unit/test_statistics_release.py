"""Private statistics: the noise that is claimed is on them, they come back from disk, and experts are made of them."""

import json
import math

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, log_of

from molar_retrieval.models.private import private_models
from molar_retrieval.privacy import dp_release
from molar_retrieval.privacy.mechanism import GaussianMechanism
from molar_retrieval.privacy.statistics import DPStatistics

REPEATS = 40


def people(count=60, seed=0):
    random = np.random.default_rng(seed)
    return log_of([random.integers(0, N_ITEMS, random.integers(0, 9)).tolist() for _ in range(count)])


@pytest.fixture(scope="module")
def features():
    vectors = np.random.default_rng(1).normal(size=(N_ITEMS, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("then", ["TINY", "FEW", "MANY"])
def test_comes_back_from_facts_and_tensors(features, monkeypatch, then):
    monkeypatch.setattr(dp_release, "divided", lambda *_: getattr(dp_release, then))
    released = dp_release.dp_release(people(), features, GaussianMechanism.of(8))
    again = DPStatistics.of(json.loads(json.dumps(released.facts())), released.tensors())
    assert again.facts() == released.facts()
    np.testing.assert_array_equal(again.popularity, released.popularity)
    np.testing.assert_array_equal(again.transitions, released.transitions)
    assert (again.pairs != released.pairs).nnz == 0


def test_moves_with_its_items(features):
    released = dp_release.dp_release(people(), features, GaussianMechanism(math.inf, 1e-6, 0.0))
    rows = np.roll(np.arange(N_ITEMS), 3)
    rows[0] = -1
    moved = released.moved(rows, N_ITEMS + 1)
    assert moved.n_items == N_ITEMS + 1
    assert released.pairs.nnz
    np.testing.assert_array_equal(moved.pairs[rows[1:]][:, rows[1:]].toarray(), released.pairs[1:, 1:].toarray())
    np.testing.assert_array_equal(moved.transitions[rows[1:]], released.transitions[1:])
    assert moved.popularity[N_ITEMS] == 0


def test_experts_are_the_same_each_time_and_know_what_was_taken(features, monkeypatch):
    monkeypatch.setattr(dp_release, "divided", lambda *_: dp_release.MANY)
    log = log_of([[0, 1]] * 300 + [[2, 3]] * 200 + [[4]])
    released = dp_release.dp_release(log, features, GaussianMechanism.of(8))
    counts, again = private_models(released, features), private_models(released, features)
    asked = log_of([[0], [2]])
    (sequence,), (other,) = counts.item_item, again.item_item
    np.testing.assert_array_equal(sequence.scores(asked), other.scores(asked))
    np.testing.assert_array_equal(counts.content_knn.scores(asked), again.content_knn.scores(asked))
    assert sequence.scores(asked).argmax(axis=1).tolist() == [1, 3]
    assert (
        counts.popularity.now()[[0, 1]].min()
        > counts.popularity.now()[[2, 3]].max()
        > counts.popularity.now()[5:].max()
    )
    assert set(counts.weights) == {"sequential", "content_knn", "popularity"}


def test_content_learns_what_is_taken_after_what():
    random = np.random.default_rng(3)
    axis = np.eye(6, dtype=np.float32)
    looks = np.repeat(axis[:3], N_ITEMS // 3, axis=0)  # items of three kinds; the second kind is taken after the first
    kinds = [random.choice(N_ITEMS // 3, 4, replace=False) for _ in range(400)]
    log = log_of([[*kind[:2], *(kind[2:] + N_ITEMS // 3)] for kind in kinds])
    released = dp_release.dp_release(log, looks, GaussianMechanism.of(8))
    scores = private_models(released, looks).content_knn.scores(log_of([[0, 1]]))[0].reshape(3, -1).mean(axis=1)
    assert scores[1] > scores[2] + 0.1


def test_a_shop_of_nobody_has_experts(features):
    counts = private_models(dp_release.dp_release(log_of([]), features, GaussianMechanism.of(1)), features)
    asked = log_of([[0], []])
    assert np.isfinite(counts.content_knn.scores(asked)).all()
    assert np.isfinite(counts.popularity.now()).all()
    assert counts.item_item[0].weights.nnz == 0
