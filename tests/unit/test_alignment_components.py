"""Parts of a score: sparse against dense arithmetic, and arrays of the caller's own."""

import math

import numpy as np
import pytest
from alignment_tasks import random_cases, rank_by_hand
from eval_model_tasks import log_of
from scipy.sparse import random as random_sparse

from molar_retrieval.models import validation
from molar_retrieval.models.blending import Counted, Dense, PopularityAt, ranked
from molar_retrieval.models.popularity import DAY, Popularity

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
        "momentary": PopularityAt(Popularity.fit(log, 2.0), random.integers(0, 12, C) * DAY),
    }


def by_hand(part):
    if isinstance(part, Dense):
        return [[sum(a * b for a, b in zip(user, item, strict=True)) for item in part.items] for user in part.users]
    if isinstance(part, Counted):
        return part.histories.toarray() @ part.weights.toarray()
    rows = []
    for moment in part.times // DAY:
        ages = [
            [moment - d for d, i in zip(part.popularity.days, part.popularity.items, strict=True) if i == n]
            for n in range(N)
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
    part = PopularityAt(Popularity.fit(log_of([[1, 2]], N, [0, 0]), 2.0), np.zeros(3, np.int64))
    part.scores(slice(0, 3))[:] = np.nan
    assert np.isfinite(part.scores(slice(0, 3))).all()


def test_ranks_of_sums_by_hand(parts, monkeypatch):
    cases = random_cases(C, N, 3)
    weightings = [{"dense": 0.5, "counted": 3.0, "momentary": -0.25}, {"counted": 1.0}, {"dense": 1.0, "counted": 0.0}]
    sums = [sum(w * np.array(by_hand(parts[name])) for name, w in weights.items()) for weights in weightings]
    for height in (1, 3, C):
        monkeypatch.setattr(validation, "SCORES_PER_BLOCK", height * N)
        got = ranked(cases, parts, weightings)
        assert [rank.tolist() for rank in got] == [rank_by_hand(cases, scores) for scores in sums]


def test_a_part_is_computed_once_for_all_sums_and_not_without_a_weight(parts):
    asked = []

    class Watched:
        def __init__(self, name):
            self.name = name

        def scores(self, cases):
            asked.append(self.name)
            return parts[self.name].scores(cases)

    cases = random_cases(C, N, 3)
    watched = {name: Watched(name) for name in parts}
    ranked(cases, watched, [{"dense": 1.0}, {"dense": 2.0, "counted": 0.0}, {"dense": 1.0, "momentary": 1.0}])
    assert sorted(asked) == ["dense", "momentary"]


def test_without_a_weight_nothing_is_found(parts):
    (rank,) = ranked(random_cases(C, N, 3), parts, [{"dense": 0.0}])
    assert (rank >= 10 - 6).all(), "all items are level, and ties count against the target"
