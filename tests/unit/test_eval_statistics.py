"""Intervals, permutation tests, Holm and seeds against plain Python, SciPy and known values."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from molar_eval import statistics
from molar_eval.statistics import (
    ConfidenceInterval,
    averaged,
    clustered_intervals,
    clustered_ratio,
    holm,
    paired_permutation,
    seed_spread,
)
from molar_retrieval.errors import DataError

VALUES = st.floats(-5, 5, allow_nan=False, width=32)


def clustered_bootstrap(values, clusters, **options):
    """The interval of one metric."""
    return clustered_intervals(values[:, None], clusters, **options)[0]


def _sparse(random, users, rate=0.02, alike=0.5):
    """Hits of users with several cases each; a user's cases resemble each other."""
    cases = np.minimum(random.geometric(0.3, users), 30)
    scale = (1 - alike) / alike
    hits = random.binomial(cases, random.beta(rate * scale, (1 - rate) * scale, users))
    user = np.repeat(np.arange(users), cases)
    first = np.repeat(np.cumsum(cases) - cases, cases)
    return (np.arange(len(user)) - first < np.repeat(hits, cases)).astype(float), user


# --- bootstrap


def test_mean_over_cases_not_over_users():
    found = clustered_bootstrap(np.array([1.0, 1, 1, 0]), np.array(["a", "a", "a", "b"]))
    assert found.mean == 0.75
    assert 0 <= found.low < 0.75 < found.high <= 1


def test_bootstrap_t_equals_plain_python():
    random = np.random.default_rng(3)
    cases = random.integers(1, 5, 40)
    user = np.repeat(np.arange(40), cases)
    value = random.exponential(size=len(user))
    totals = [value[user == u].sum() for u in range(40)]
    mean = sum(totals) / len(user)
    studentised = []
    for row in np.concatenate(list(statistics._weights(40, 300, 5))):
        n = sum(w * c for w, c in zip(row, cases, strict=True))
        t = sum(w * s for w, s in zip(row, totals, strict=True)) / n
        squares = sum(w * (s - t * c) ** 2 for w, s, c in zip(row, totals, cases, strict=True))
        studentised.append((t - mean) / (math.sqrt(squares) / n))
    error = math.sqrt(sum((s - mean * c) ** 2 for s, c in zip(totals, cases, strict=True))) / len(user)
    found = clustered_bootstrap(value, user, level=0.9, resamples=300, seed=5)
    expected = mean - np.quantile(studentised, 0.95) * error, mean - np.quantile(studentised, 0.05) * error
    assert (found.mean, found.low, found.high) == pytest.approx((mean, *expected))


def test_every_resample_draws_as_many_clusters_as_there_are(monkeypatch):
    monkeypatch.setattr(statistics, "_BLOCK", 1000)
    blocks = list(statistics._weights(70, 100, 0))
    assert max(block.size for block in blocks) <= 1000
    weights = np.concatenate(blocks)
    assert weights.shape == (100, 70)
    assert (weights.sum(axis=1) == 70).all()
    assert weights.var() == pytest.approx(1 - 1 / 70, rel=0.1)


def test_close_to_students_interval_for_normal_values():
    value = np.random.default_rng(0).normal(size=400)
    found = clustered_bootstrap(value, np.arange(400), resamples=20_000)
    low, high = stats.t.interval(0.95, 399, value.mean(), stats.sem(value))
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)


def test_copies_of_a_case_add_no_certainty():
    value = np.random.default_rng(1).random(50)
    once = clustered_bootstrap(value, np.arange(50))
    often = clustered_bootstrap(np.repeat(value, 9), np.repeat(np.arange(50), 9))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_metrics_together_equal_metrics_alone():
    random = np.random.default_rng(2)
    values, user = random.random((200, 3)), random.integers(0, 60, 200)
    together = clustered_intervals(values, user, seed=4)
    alone = [clustered_bootstrap(values[:, m], user, seed=4) for m in range(3)]
    np.testing.assert_allclose(
        [(i.mean, i.low, i.high) for i in together], [(i.mean, i.low, i.high) for i in alone], rtol=1e-9
    )
    assert together != clustered_intervals(values, user, seed=5)


def test_higher_level_is_wider():
    value, user = _sparse(np.random.default_rng(5), 300)
    narrow, wide = (clustered_bootstrap(value, user, level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_all_alike():
    assert clustered_bootstrap(np.full(5, 0.3), np.arange(5)) == ConfidenceInterval(0.3, 0.3, 0.3)
    assert clustered_bootstrap(np.array([0.0, 1]), np.zeros(2)) == ConfidenceInterval(0.5, 0.5, 0.5)


def test_resamples_without_the_only_hits_do_not_make_the_interval_endless():
    found = clustered_bootstrap(np.eye(1, 500)[0], np.arange(500))
    assert 0 <= found.low < 1 / 500 < found.high < 0.02


def test_ratio():
    random = np.random.default_rng(6)
    visits, user = random.integers(0, 4, 3000), random.integers(0, 400, 3000)
    spent = visits * random.lognormal(size=3000)
    found = clustered_ratio(spent, visits, user)
    assert found.mean == pytest.approx(spent.sum() / visits.sum())
    assert found.low < np.exp(0.5) < found.high
    assert clustered_ratio(spent, np.ones(3000), user).high == pytest.approx(clustered_bootstrap(spent, user).high)


def test_ratio_leaves_out_resamples_without_a_denominator():
    found = clustered_ratio(np.array([1.0, 2, 3, 0, 0, 0]), np.array([1.0, 2, 1, 0, 0, 0]), np.arange(6))
    assert found.mean == 1.5
    assert 0 <= found.low < 1.5 < found.high < np.inf


@pytest.mark.parametrize("values", [[], [1, np.nan], [np.inf, 1]])
def test_unusable_values(values):
    with pytest.raises(DataError):
        clustered_bootstrap(np.array(values, float), np.arange(len(values)))


@pytest.mark.parametrize("denominator", [[0, 0], [1, -1]])
def test_unusable_denominators(denominator):
    with pytest.raises(DataError):
        clustered_ratio(np.ones(2), np.array(denominator), np.arange(2))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(VALUES, st.integers(0, 6)), min_size=1, max_size=30), st.floats(0.1, 3), VALUES)
def test_intervals_hold_the_mean_and_move_with_the_unit(rows, factor, shift):
    value, user = (np.array(column, float) for column in zip(*rows, strict=True))
    found = clustered_bootstrap(value, user, resamples=200)
    moved = clustered_bootstrap(value * factor + shift, user, resamples=200)
    assert found.mean == pytest.approx(value.mean(), abs=1e-9)
    assert value.min() <= found.low <= found.high <= value.max()
    ends = np.array([found.mean, found.low, found.high]) * factor + shift
    np.testing.assert_allclose([moved.mean, moved.low, moved.high], ends, atol=1e-6)


@pytest.mark.slow
def test_coverage_of_sparse_clustered_recall():
    """Nominal 95 % intervals cover at least 93 %; drawing cases instead of users would not reach 85 %."""
    random = np.random.default_rng(17)
    truth = 0.02
    clustered, unclustered = [], []
    for trial in range(1000):
        value, user = _sparse(random, 500, truth)
        found = clustered_bootstrap(value, user, resamples=400)
        clustered.append(found.low <= truth <= found.high)
        if trial < 200:
            found = clustered_bootstrap(value, np.arange(len(value)), resamples=400)
            unclustered.append(found.low <= truth <= found.high)
    assert np.mean(clustered) >= 0.93
    assert np.mean(unclustered) < 0.85


# --- permutation


@pytest.mark.parametrize("alternative", ["two-sided", "less"])
def test_equals_scipy_where_every_flip_is_tried(alternative):
    difference = np.random.default_rng(8).normal(0.3, 1, 10)
    expected = stats.permutation_test(
        (difference,),
        lambda x, axis: np.sum(x, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative=alternative,
        vectorized=True,
    )
    found = paired_permutation(difference[:, None], np.arange(10), alternative=alternative)
    assert found[0] == pytest.approx(expected.pvalue)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 5)), min_size=1, max_size=15))
def test_equals_plain_python(rows):
    totals = [sum(d for d, user in rows if user == u) for u in range(6)]
    flips = [sum(s * t for s, t in zip(signs, totals, strict=True)) for signs in itertools.product([-1, 1], repeat=6)]
    both = sum(abs(f) >= abs(sum(totals)) for f in flips) / 64
    less = sum(f <= sum(totals) for f in flips) / 64
    difference, user = (np.array(column) for column in zip(*rows, strict=True))
    assert paired_permutation(difference[:, None], user)[0] == pytest.approx(both)
    assert paired_permutation(difference[:, None], user, alternative="less")[0] == pytest.approx(less)


def test_drawn_flips_agree_with_all_flips():
    difference = np.random.default_rng(9).normal(0.4, 1, (12, 3))
    exact = paired_permutation(difference, np.arange(12))
    drawn = paired_permutation(difference, np.arange(12), resamples=4000)
    np.testing.assert_allclose(drawn, exact, atol=0.03)
    assert (drawn != exact).all()


def test_no_difference_and_equal_differences():
    assert paired_permutation(np.zeros((30, 1)), np.arange(30))[0] == 1
    # Two users with the same difference in opposite directions: every flip is as far from 0, or farther.
    assert paired_permutation(np.array([[0.1], [-0.1]]), np.arange(2))[0] == 1
    assert paired_permutation(np.full((40, 1), 0.1), np.arange(40), alternative="less")[0] == 1


def test_sums_with_rounding_noise_count_as_equal():
    difference = np.array([0.1, 0.2, 0.3, -0.6])
    assert paired_permutation(difference[:, None], np.arange(4))[0] == 1


def test_clustered_p_is_uniform_under_the_null_and_unclustered_is_not():
    random = np.random.default_rng(10)
    found, naive = [], []
    for trial in range(300):
        user = np.repeat(np.arange(40), random.integers(1, 12, 40))
        difference = random.normal(size=40)[user] + 0.2 * random.normal(size=len(user))
        found.append(paired_permutation(difference[:, None], user, resamples=400, seed=trial)[0])
        naive.append(paired_permutation(difference[:, None], np.arange(len(user)), resamples=400, seed=trial)[0])
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) < 0.09
    assert np.mean(np.array(naive) <= 0.05) > 0.3


def test_power_and_direction():
    random = np.random.default_rng(11)
    difference = random.normal([-0.4, 0.4], size=(200, 2))
    assert (paired_permutation(difference, np.arange(200)) < 0.001).all()
    worse, better = paired_permutation(difference, np.arange(200), alternative="less")
    assert worse < 0.001
    assert better > 0.99


def test_the_bound_says_more_than_the_flips_and_no_less_than_the_truth():
    """All of n users lose the same: the true p is 2 ** -n, one-sided."""
    found = paired_permutation(np.full((30, 1), -1.0), np.arange(30), alternative="less")[0]
    assert 2**-30 <= found < 1e-6
    both = paired_permutation(np.full((30, 1), 1.0), np.arange(30))[0]
    assert both == pytest.approx(2 * found)
    assert pytest.approx(3.178, abs=1e-3) == statistics._RADEMACHER


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.integers(1, 30))
def test_p_is_never_far_below_the_exact_one(difference, resamples):
    """With few flips most p-values come from the bound; it holds for every set of differences."""
    column = np.array(difference)[:, None]
    exact = paired_permutation(column, np.arange(len(column)), resamples=10**6)[0]
    z = abs(column.sum()) / max(np.sqrt((column**2).sum()), 1e-9)
    assert 2 * statistics._RADEMACHER * stats.norm.sf(z) >= exact - 1e-12
    assert 0 < paired_permutation(column, np.arange(len(column)), resamples=resamples)[0] <= 1


def test_blocks_are_bounded(monkeypatch):
    monkeypatch.setattr(statistics, "_BLOCK", 500)
    blocks = list(statistics._random_flips(21, 100, 0))
    assert max(block.size for block in blocks) <= 500
    flips = np.concatenate(blocks)
    assert flips.shape == (100, 21)
    assert set(np.unique(flips)) == {0, 1}
    assert flips.mean() == pytest.approx(0.5, abs=0.05)


# --- Holm


def test_holm_on_a_known_example():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


@settings(max_examples=200)
@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p, alpha):
    rejected = set()
    for step, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[place] * (len(p) - step) > alpha:
            break
        rejected.add(place)
    adjusted = holm(np.array(p))
    assert {i for i in range(len(p)) if adjusted[i] <= alpha} == rejected
    assert ((adjusted >= p) & (adjusted <= 1)).all()


# --- seeds


def test_seed_spread():
    scores = [np.array([[1.0, 0], [0, 0]]), np.array([[1.0, 1], [1, 0]]), np.array([[0.0, 0], [0, 0]])]
    found = seed_spread(scores)
    np.testing.assert_allclose(found.mean, [0.5, 1 / 6])
    np.testing.assert_allclose(found.sd, [0.5, math.sqrt(1 / 12)])
    np.testing.assert_allclose(averaged(scores), [[2 / 3, 1 / 3], [1 / 3, 0]])


def test_one_seed_has_no_spread():
    scores = [np.ones((3, 2), np.float32)]
    assert seed_spread(scores).sd is None
    assert averaged(scores).dtype == np.float64


@pytest.mark.parametrize("scores", [[], [np.ones((3, 2)), np.ones((4, 2))]])
def test_seeds_of_different_cases(scores):
    for function in (seed_spread, averaged):
        with pytest.raises(DataError):
            function(scores)
