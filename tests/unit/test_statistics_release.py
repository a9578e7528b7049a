"""Private statistics: the noise that is claimed is on them, they come back from disk, and experts are made of them."""

import json
import math

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, log_of
from scipy.stats import chi2

from molar_retrieval.experts.private import experts_of
from molar_retrieval.privacy import dp_release
from molar_retrieval.privacy.mechanism import GaussianMechanism
from molar_retrieval.privacy.statistics import PAIRS, PEOPLE, POPULARITY, DPStatistics

REPEATS = 40


def people(count=60, seed=0):
    random = np.random.default_rng(seed)
    return log_of([random.integers(0, N_ITEMS, random.integers(0, 9)).tolist() for _ in range(count)])


@pytest.fixture(scope="module")
def features():
    vectors = np.random.default_rng(1).normal(size=(N_ITEMS, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("then", ["TINY", "FEW", "MANY"])
def test_the_noise_is_the_one_that_is_claimed(features, monkeypatch, then):
    shares = getattr(dp_release, then)
    monkeypatch.setattr(dp_release, "divided", lambda *_: shares)
    monkeypatch.setattr(dp_release, "THRESHOLD", -1e6)  # all pairs stay
    log, mechanism = people(), GaussianMechanism.of(1)
    exact = dp_release.dp_release(log, features, GaussianMechanism(math.inf, 1e-6, 0.0))
    others = ~np.eye(N_ITEMS, dtype=bool)
    noises = {name: [] for name in (PEOPLE, POPULARITY, *shares)}
    for _ in range(REPEATS):
        found = dp_release.dp_release(log, features, mechanism)
        for name, drawn in noises.items():
            got, true = getattr(found, name), getattr(exact, name)
            difference = (got - true).toarray()[others] if name == PAIRS else np.ravel(got - true)
            drawn.append(difference / found.deviations[name])
    share = {name: dp_release.FIRST.get(name, 0) + shares.get(name, 0) for name in noises}
    for name, drawn in noises.items():
        values = np.array(drawn, np.float64)
        assert found.deviations[name] == pytest.approx(mechanism.sigma / math.sqrt(share[name]), rel=1e-2)
        assert 1e-6 < chi2.cdf((values**2).sum(), values.size) < 1 - 1e-6
        assert abs(values.mean()) < 5 / math.sqrt(values.size)
        assert np.abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 5 / math.sqrt(values.size)
    assert sum(share.values()) == pytest.approx(1)


def test_what_is_released_first_decides_what_comes_then(features, monkeypatch):
    log, mechanism = people(), GaussianMechanism.of(8)
    monkeypatch.setattr(dp_release, "CLEAR", 1e6)
    few = dp_release.dp_release(log, features, mechanism)
    assert few.transitions.shape == (N_ITEMS, 0)
    assert few.pairs.nnz == 0
    monkeypatch.setattr(dp_release, "CLEAR", 0)
    assert dp_release.dp_release(log, features, mechanism).transitions.shape == features.shape
    monkeypatch.setattr(dp_release, "FROM", 0)
    monkeypatch.setattr(dp_release, "THRESHOLD", -1e6)
    found = dp_release.dp_release(log, features, mechanism)
    assert found.pairs.nnz == N_ITEMS * (N_ITEMS - 1)
    assert found.people == pytest.approx(np.count_nonzero(np.diff(log.offsets)), abs=6 * found.deviations[PEOPLE])


def test_without_noise_the_sums_are_those_of_loops(features):
    log = log_of([[0, 1, 0], [2], [], [1, 3]])
    found = dp_release.dp_release(log, features, GaussianMechanism(math.inf, 1e-6, 0.0))
    popularity, pairs, transitions = np.zeros(N_ITEMS), np.zeros((N_ITEMS, N_ITEMS)), np.zeros((N_ITEMS, 6))
    popularity[[0, 1]] += 1 / math.sqrt(2)
    popularity[2] += 1
    popularity[[1, 3]] += 1 / math.sqrt(2)
    pairs[[0, 1], [1, 0]] += 1 / math.sqrt(2)  # in both orders
    pairs[1, 3] += 1
    after = {1: features[0], 0: features[1] + 0.9 * features[0]}
    length = math.sqrt(sum((vector**2).sum() for vector in after.values()))
    for item, vector in after.items():
        transitions[item] += vector / length
    transitions[3] += features[1] / np.linalg.norm(features[1])
    assert found.people == 3
    np.testing.assert_allclose(found.popularity, popularity, atol=1e-4)
    np.testing.assert_allclose(found.pairs.toarray(), pairs, atol=1e-4)
    np.testing.assert_allclose(found.transitions, transitions, atol=1e-4)


def test_pairs_of_blocks_are_those_of_the_whole(features, monkeypatch):
    log, exact = people(), GaussianMechanism(math.inf, 1e-6, 0.0)
    whole = dp_release.dp_release(log, features, exact)
    monkeypatch.setattr(dp_release, "_CELLS", 3 * N_ITEMS)
    monkeypatch.setattr(dp_release, "_ROWS", 7)
    parts = dp_release.dp_release(log, features, exact)
    assert (whole.pairs != parts.pairs).nnz == 0
    np.testing.assert_array_equal(whole.transitions, parts.transitions)


def test_only_the_most_popular_items_have_pairs(features, monkeypatch):
    monkeypatch.setattr(dp_release, "MOST", 2)
    log = log_of([[0, 1, 2], [0, 1], [0, 2], [0, 1]])
    found = dp_release.dp_release(log, features, GaussianMechanism(math.inf, 1e-6, 0.0))
    assert found.pairs.toarray()[0, 1] == pytest.approx(3, abs=1e-4)
    assert found.pairs.nnz == 1


@pytest.mark.parametrize("then", ["TINY", "FEW", "MANY"])
def test_comes_back_from_the_disk(features, tmp_path, monkeypatch, then):
    monkeypatch.setattr(dp_release, "divided", lambda *_: getattr(dp_release, then))
    released = dp_release.dp_release(people(), features, GaussianMechanism.of(8))
    released.save(tmp_path)
    again = DPStatistics.open(tmp_path)
    assert again.facts() == released.facts() == json.loads((tmp_path / "statistics.json").read_text())
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
    experts, again = experts_of(released, features), experts_of(released, features)
    asked = log_of([[0], [2]])
    (sequence,), (other,) = experts.item_item, again.item_item
    np.testing.assert_array_equal(sequence.scores(asked), other.scores(asked))
    np.testing.assert_array_equal(experts.content_knn.scores(asked), again.content_knn.scores(asked))
    assert sequence.scores(asked).argmax(axis=1).tolist() == [1, 3]
    assert experts.trend.now()[[0, 1]].min() > experts.trend.now()[[2, 3]].max() > experts.trend.now()[5:].max()
    assert set(experts.weights) == {"sequence", "neighbours", "trend"}


def test_content_learns_what_is_taken_after_what():
    random = np.random.default_rng(3)
    axis = np.eye(6, dtype=np.float32)
    looks = np.repeat(axis[:3], N_ITEMS // 3, axis=0)  # items of three kinds; the second kind is taken after the first
    kinds = [random.choice(N_ITEMS // 3, 4, replace=False) for _ in range(400)]
    log = log_of([[*kind[:2], *(kind[2:] + N_ITEMS // 3)] for kind in kinds])
    released = dp_release.dp_release(log, looks, GaussianMechanism.of(8))
    scores = experts_of(released, looks).content_knn.scores(log_of([[0, 1]]))[0].reshape(3, -1).mean(axis=1)
    assert scores[1] > scores[2] + 0.1


def test_a_shop_of_nobody_has_experts(features):
    experts = experts_of(dp_release.dp_release(log_of([]), features, GaussianMechanism.of(1)), features)
    asked = log_of([[0], []])
    assert np.isfinite(experts.content_knn.scores(asked)).all()
    assert np.isfinite(experts.trend.now()).all()
    assert experts.item_item[0].weights.nnz == 0
