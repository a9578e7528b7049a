"""Parts of a score: sparse against dense arithmetic, and arrays of the caller's own."""

import math

import numpy as np
import pytest
from eval_model_tasks import log_of
from scipy.sparse import random as random_sparse

from molar_retrieval.alignment.parts import Counted, Dense, Momentary, weighted
from molar_retrieval.experts.trend import DAY, Trend

C, N = 7, 11


@pytest.fixture
def parts():
    random = np.random.default_rng(0)
    log = log_of([[1, 2, 2, 3], [3, 4, 5]], N, [DAY, 2 * DAY, 3 * DAY, 4 * DAY, 2 * DAY, 3 * DAY, 9 * DAY])
    return {
        "dense": Dense(random.normal(size=(C, 3)).astype(np.float32), random.normal(size=(N, 3)).astype(np.float32)),
        "counted": Counted(
            random_sparse(C, N, 0.4, "csr", np.float32, random), random_sparse(N, N, 0.3, "csr", np.float32, random)
        ),
        "momentary": Momentary(Trend.fit(log, 2.0), random.integers(0, 12, C) * DAY),
    }


def by_hand(part):
    if isinstance(part, Dense):
        return [[sum(a * b for a, b in zip(user, item, strict=True)) for item in part.items] for user in part.users]
    if isinstance(part, Counted):
        return part.histories.toarray() @ part.partners.toarray()
    rows = []
    for moment in part.times // DAY:
        ages = [
            [moment - d for d, i in zip(part.trend.days, part.trend.items, strict=True) if i == n] for n in range(N)
        ]
        rows.append([math.log(0.05 + sum(2 ** (-age / 2) for age in own if age > 0)) for own in ages])
    return rows


@pytest.mark.parametrize("name", ["dense", "counted", "momentary"])
def test_scores_by_hand_for_any_range(parts, name):
    expected = np.array(by_hand(parts[name]))
    for block in (slice(0, C), slice(2, 5), slice(6, 7), np.array([5, 1, 1, 6])):
        got = parts[name].scores(block)
        assert isinstance(got, np.ndarray)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected[block], atol=1e-5)


@pytest.mark.parametrize("name", ["dense", "counted", "momentary"])
def test_writing_into_scores_changes_nothing_later(parts, name):
    first = parts[name].scores(slice(0, C))
    kept = first.copy()
    first[:] = np.nan
    assert np.array_equal(parts[name].scores(slice(0, C)), kept)


def test_scores_without_times_are_of_the_callers_own():
    part = Momentary(Trend.fit(log_of([[1, 2]], N, [0, 0]), 2.0), np.zeros(3, np.int64))
    part.scores(slice(0, 3))[:] = np.nan
    assert np.isfinite(part.scores(slice(0, 3))).all()


def test_the_sum_by_weights(parts):
    weights = {"dense": 0.5, "counted": 3.0, "momentary": -0.25}
    expected = sum(w * np.array(by_hand(parts[name])) for name, w in weights.items())
    for block in (slice(0, C), slice(1, 4)):
        np.testing.assert_allclose(weighted(parts, weights, block), expected[block], atol=1e-4)
    alone = weighted(parts, {"counted": 1.0}, slice(0, C))
    np.testing.assert_allclose(alone, by_hand(parts["counted"]), atol=1e-5)


def test_parts_without_a_weight_are_not_computed(parts):
    class Costly:
        def scores(self, cases):
            raise AssertionError("computed")

    both = {"costly": Costly(), **parts}
    got = weighted(both, {"costly": 0.0, "dense": 2.0}, slice(0, 2))
    np.testing.assert_allclose(got, 2 * parts["dense"].scores(slice(0, 2)), atol=1e-6)
    with pytest.raises(ValueError, match="weight"):
        weighted(both, {"costly": 0.0, "dense": 0.0}, slice(0, 2))
