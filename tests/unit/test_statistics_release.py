"""Private statistics: the noise that is claimed is on them, they come back from disk, and experts are made of them."""

import json
import math

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, log_of
from scipy.stats import chi2

from molar_retrieval.statistics import contributions, release
from molar_retrieval.statistics.experts import experts_of
from molar_retrieval.statistics.mechanism import Mechanism
from molar_retrieval.statistics.released import PAIRS, POPULARITY, TRANSITIONS, Released

REPEATS = 40


def people(count=60, seed=0):
    random = np.random.default_rng(seed)
    return log_of([random.integers(0, N_ITEMS, random.integers(0, 9)).tolist() for _ in range(count)])


@pytest.fixture(scope="module")
def features():
    vectors = np.random.default_rng(1).normal(size=(N_ITEMS, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_noise_is_the_one_that_is_claimed(features, monkeypatch):
    monkeypatch.setattr(release, "THRESHOLD", -1e6)  # all pairs stay
    log, mechanism = people(), Mechanism.of(1)
    radius = {name: release.radius_of(share, mechanism) for name, share in release.SHARES.items()}
    exact = {
        POPULARITY: contributions.popularity_sums(log, radius[POPULARITY]),
        TRANSITIONS: contributions.transition_sums(log, features, radius[TRANSITIONS]),
        PAIRS: contributions.pair_sums(log, radius[PAIRS]).toarray(),
    }
    upper = np.triu_indices(N_ITEMS, 1)
    noises = {name: [] for name in exact}
    for _ in range(REPEATS):
        found = release.release(log, features, mechanism)
        for name in exact:
            got = getattr(found, name)
            difference = (got.toarray() if name == PAIRS else got) - exact[name] / radius[name]
            noises[name].append((difference[upper] if name == PAIRS else difference).ravel() / found.deviations[name])
    for name, drawn in noises.items():
        values = np.array(drawn, np.float64)
        assert found.deviations[name] == pytest.approx(mechanism.sigma / math.sqrt(release.SHARES[name]), rel=1e-3)
        assert 1e-6 < chi2.cdf((values**2).sum(), values.size) < 1 - 1e-6
        assert abs(values.mean()) < 5 / math.sqrt(values.size)
        assert np.abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 5 / math.sqrt(values.size)
    assert sum(release.SHARES.values()) == pytest.approx(1)


def test_without_noise_the_sums_are_those_of_loops(features):
    log = log_of([[0, 1, 0], [2], [], [1, 3]])
    found = release.release(log, features, Mechanism(math.inf, 1e-6, 0.0))
    popularity, pairs, transitions = np.zeros(N_ITEMS), np.zeros((N_ITEMS, N_ITEMS)), np.zeros((N_ITEMS, 6))
    popularity[[0, 1]] += 1 / math.sqrt(2)
    popularity[2] += 1
    popularity[[1, 3]] += 1 / math.sqrt(2)
    pairs[0, 1] += 1  # 1 + 1, scaled to 1
    pairs[1, 3] += 1
    after = {1: features[0], 0: features[1] + 0.9 * features[0]}
    length = math.sqrt(sum((vector**2).sum() for vector in after.values()))
    for item, vector in after.items():
        transitions[item] += vector / length
    transitions[3] += features[1] / np.linalg.norm(features[1])
    np.testing.assert_allclose(found.popularity, popularity, atol=1e-4)
    np.testing.assert_allclose(found.pairs.toarray(), pairs, atol=1e-4)
    np.testing.assert_allclose(found.transitions, transitions, atol=1e-4)


def test_pairs_of_blocks_are_those_of_the_whole(features, monkeypatch):
    log, exact = people(), Mechanism(math.inf, 1e-6, 0.0)
    whole = release.release(log, features, exact)
    monkeypatch.setattr(release, "_CELLS", 3 * N_ITEMS)
    monkeypatch.setattr(contributions, "_ROWS", 7)
    parts = release.release(log, features, exact)
    assert (whole.pairs != parts.pairs).nnz == 0
    np.testing.assert_array_equal(whole.transitions, parts.transitions)


def test_only_the_most_popular_items_have_pairs(features, monkeypatch):
    monkeypatch.setattr(release, "MOST", 2)
    log = log_of([[0, 1, 2], [0, 1], [0, 2], [1, 0]])
    found = release.release(log, features, Mechanism(math.inf, 1e-6, 0.0))
    assert found.pairs.toarray()[0, 1] == pytest.approx(3, abs=1e-4)
    assert found.pairs.nnz == 1


def test_comes_back_from_the_disk(features, tmp_path):
    released = release.release(people(), features, Mechanism.of(8))
    released.save(tmp_path)
    again = Released.open(tmp_path)
    assert again.facts() == released.facts() == json.loads((tmp_path / "statistics.json").read_text())
    np.testing.assert_array_equal(again.popularity, released.popularity)
    np.testing.assert_array_equal(again.transitions, released.transitions)
    assert (again.pairs != released.pairs).nnz == 0


def test_moves_with_its_items(features):
    released = release.release(people(), features, Mechanism(math.inf, 1e-6, 0.0))
    rows = np.roll(np.arange(N_ITEMS), 3)
    rows[0] = -1
    moved = released.moved(rows, N_ITEMS + 1)
    assert moved.n_items == N_ITEMS + 1
    both, of_both = released.pairs + released.pairs.T, moved.pairs + moved.pairs.T
    assert both.nnz
    np.testing.assert_array_equal(of_both[rows[1:]][:, rows[1:]].toarray(), both[1:, 1:].toarray())
    np.testing.assert_array_equal(moved.transitions[rows[1:]], released.transitions[1:])
    assert moved.popularity[N_ITEMS] == 0


def test_experts_are_the_same_each_time_and_know_what_was_taken(features):
    log = log_of([[0, 1]] * 300 + [[2, 3]] * 200 + [[4]])
    released = release.release(log, features, Mechanism.of(8))
    experts, again = experts_of(released, features), experts_of(released, features)
    asked = log_of([[0], [2]])
    for one, other in zip(experts.item_item, again.item_item, strict=True):
        np.testing.assert_array_equal(one.scores(asked), other.scores(asked))
    together = experts.item_item[0].scores(asked)
    assert together[0].argmax() == 1
    assert together[1].argmax() == 3
    assert experts.trend.now()[[0, 1]].min() > experts.trend.now()[[2, 3]].max() > experts.trend.now()[5:].max()
    assert released.known()[:4].all()
    assert set(experts.weights) == {"sequence", "linear", "neighbours", "trend"}
