"""Off-policy estimators against plain Python, and logs that cannot answer."""

import math

import numpy as np
import pytest

from molar_eval import statistics
from molar_eval.kpi.impressions import Impressions
from molar_eval.kpi.off_policy import TargetPolicy, effective_rows, evaluate_policy, softmax_policy, uniform_policy
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.ids import IdMap


def _log(propensity, reward, user=None):
    n = len(reward)
    user = np.arange(n) if user is None else np.asarray(user)
    users = IdMap([str(i) for i in range(int(user.max()) + 1)]) if n else IdMap([])
    rows, ids = np.arange(n, dtype=np.int32), IdMap([str(i) for i in range(n)])
    propensity = np.broadcast_to(np.asarray(propensity, float), n)
    return Impressions(ids, users, ids, rows, user.astype(np.int32), rows, propensity, np.asarray(reward, float))


def _random(seed, n=400, uniform=False):
    random = np.random.default_rng(seed)
    propensity = np.full(n, 0.25) if uniform else random.uniform(0.05, 1, n)
    log = _log(propensity, random.normal(2, 1, n), random.integers(80, size=n))
    return log, random.uniform(0, 1, n) * (random.random(n) < 0.7)


@pytest.mark.parametrize("clip", [None, 1.5])
def test_estimates_are_those_of_the_formulas(clip):
    log, target = _random(1)
    found = evaluate_policy(log, target, clip=clip, resamples=50)
    total = weighted = weights = squares = cut = raw = 0.0
    for p, r, q in zip(log.propensity, log.reward, target, strict=True):
        w = q / p if clip is None else min(q / p, clip)
        total, weighted, weights, squares = total + r, weighted + w * r, weights + w, squares + w * w
        cut, raw = cut + q / p - w, raw + q / p
    n = len(log)
    expected = {"logged": total / n, "ips": weighted / n, "snips": weighted / weights, "gain": (weighted - total) / n}
    assert {value.estimator: value.mean for value in found.values} == pytest.approx(expected)
    assert found.weights.effective_rows == pytest.approx(weights**2 / squares)
    assert found.weights.mean.mean == pytest.approx(raw / n)
    assert found.weights.clipped_share == pytest.approx(cut / raw)
    assert found.value("ips").rows == sum(q > 0 for q in target)
    assert all(value.low < value.mean < value.high for value in found.values)


def test_replay_averages_the_rows_that_agree():
    log, _ = _random(2, uniform=True)
    agree = np.random.default_rng(3).random(len(log)) < 0.25
    replay = evaluate_policy(log, agree.astype(float), resamples=50).value("replay")
    assert replay.mean == pytest.approx(sum(r for r, a in zip(log.reward, agree, strict=True) if a) / agree.sum())
    assert replay.rows == agree.sum()


def test_replay_of_a_stochastic_policy_accepts_by_its_probability():
    log, target = _random(4, n=20_000, uniform=True)
    first, again, other = (evaluate_policy(log, target, resamples=20, seed=seed).value("replay") for seed in (0, 0, 1))
    assert first == again
    assert first.rows != other.rows
    assert first.rows == pytest.approx(target.sum(), rel=0.05)


def test_the_seed_settles_everything_and_the_level_widens():
    log, target = _random(5)
    assert evaluate_policy(log, target, seed=3, resamples=200) == evaluate_policy(log, target, seed=3, resamples=200)
    narrow, wide = (evaluate_policy(log, target, level=level, resamples=200).value("snips") for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_rows_of_one_user_count_as_one_piece_of_evidence():
    random = np.random.default_rng(6)
    reward, target = (random.random(200) < 0.3).astype(float), np.full(200, 0.5)
    apart = evaluate_policy(_log(0.5, reward), target)
    repeated = evaluate_policy(_log(0.5, np.tile(reward, 4), np.tile(np.arange(200), 4)), np.tile(target, 4))
    for name in ("ips", "snips"):
        one, four = apart.value(name), repeated.value(name)
        assert four.high - four.low == pytest.approx(one.high - one.low, rel=1e-9)


def test_many_users_are_drawn_in_groups(monkeypatch):
    log, target = _random(7, n=4000)
    alone = evaluate_policy(log, target).value("ips")
    monkeypatch.setattr(statistics, "MOST_UNITS", 40)
    grouped = evaluate_policy(log, target).value("ips")
    assert grouped.mean == pytest.approx(alone.mean)
    assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=0.3)
    assert grouped != alone
    assert np.bincount(statistics.user_groups(85, 0)).tolist() == [3] * 5 + [2] * 35


def test_uneven_propensities_rule_replay_out():
    log, target = _random(8)
    found = evaluate_policy(log, target, resamples=20)
    assert found.value("replay") is None
    assert any("replay needs uniform logging" in text for text in found.warnings)


def test_a_deterministic_log_says_so():
    found = evaluate_policy(_log(1.0, np.random.default_rng(9).random(300)), np.ones(300), resamples=50)
    assert found.value("replay") is None
    assert any("100.0% of the rows have propensity 1" in text for text in found.warnings)
    assert any("the logging policy was deterministic" in text for text in found.warnings)


def test_no_row_matches():
    found = evaluate_policy(_log(0.2, np.ones(300)), np.zeros(300), resamples=50)
    assert [value.estimator for value in found.values] == ["logged", "ips", "gain"]
    ips = found.value("ips")
    assert (ips.mean, ips.low, ips.high, ips.rows) == (0.0, None, None, 0)
    assert found.weights.effective_rows == 0
    assert any("the log says nothing about it" in text for text in found.warnings)


def test_a_policy_that_happens_to_agree_with_nothing():
    target = np.full(50, 1e-9)
    found = evaluate_policy(_log(0.2, np.ones(50)), target, resamples=50)
    assert found.value("replay") is None
    assert any("agrees with no row" in text for text in found.warnings)


def test_no_reward_at_all_has_no_interval():
    _, target = _random(10)
    found = evaluate_policy(_log(0.3, np.zeros(400)), target, resamples=50)
    assert all((value.mean, value.low, value.high) == (0, None, None) for value in found.values)
    assert any(text.startswith("no interval for logged, replay, ips, snips, gain") for text in found.warnings)
    assert any(text.startswith("0 users with a reward") for text in found.warnings)


def test_one_context_has_an_estimate_and_no_interval():
    found = evaluate_policy(_log(0.5, [3.0]), np.array([0.25]), resamples=50)
    means = {value.estimator: value.mean for value in found.values}
    assert means.pop("replay", 3.0) == 3.0  # accepted or not
    assert means == {"logged": 3.0, "ips": 1.5, "snips": 3.0, "gain": -1.5}
    assert all(value.low is None for value in found.values)
    assert not any(text.startswith("mean weight") for text in found.warnings)
    assert any("effective sample size 1.0 of 1 rows" in text for text in found.warnings)


def test_intervals_of_clicks_stay_within_zero_and_one():
    random = np.random.default_rng(11)
    log = _log(0.25, random.random(60) < 0.9)
    found = evaluate_policy(log, (random.random(60) < 0.3).astype(float))
    for value in found.values:
        least = -1 if value.estimator == "gain" else 0
        assert least <= value.low <= value.mean <= value.high <= max(1, value.mean)


def test_clipping_negative_rewards_has_no_sure_direction():
    log, target = _random(12)
    log.reward[:5] = -1
    found = evaluate_policy(log, target, clip=1.0, resamples=50)
    assert any("in an unknown direction" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("target", "options", "error", "text"),
    [
        (np.ones(3), {}, DataError, r"shape \(3,\) for 4 impressions"),
        (np.array([0, 1, 1.5, 0]), {}, DataError, r"target probability 3 is 1\.5"),
        (np.array([0, math.nan, 1, 0]), {}, DataError, "target probability 2 is nan"),
        (np.ones(4), {"clip": 0.0}, SettingsError, r"clipped at 0\.0"),
        (np.ones(4), {"clip": math.nan}, SettingsError, "clipped at nan"),
    ],
    ids=["shape", "above one", "nan", "clip", "clip nan"],
)
def test_what_is_refused(target, options, error, text):
    with pytest.raises(error, match=text) as caught:
        evaluate_policy(_log(0.5, np.ones(4)), target, **options)
    assert caught.value.hint


def test_an_empty_log_is_refused():
    with pytest.raises(DataError, match="is empty"):
        evaluate_policy(_log(0.5, np.zeros(0)), np.zeros(0))


def test_effective_rows():
    assert effective_rows(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_rows(np.array([0, 0, 2.0])) == 1
    assert effective_rows(np.zeros(3)) == 0


LISTS = np.array([[4, 2, 7], [1, 5, -1], [-1, -1, -1]])


def test_uniform_policy_over_lists_of_any_length():
    policy = uniform_policy(LISTS)
    assert policy.probabilities.tolist() == [[1 / 3] * 3, [0.5, 0.5, 0], [0, 0, 0]]
    context, item = np.array([0, 0, 1, 1, 2, 1]), np.array([7, 1, 5, 2, 4, -1])
    assert policy.of(context, item).tolist() == [1 / 3, 0, 0.5, 0, 0, 0]
    first = uniform_policy(LISTS[:, :1])
    assert first.of(np.array([0, 0, 1]), np.array([4, 2, 1])).tolist() == [1, 0, 1]


def test_softmax_policy():
    scores = np.array([[3.0, 2.0, 1.0], [5.0, 5.5, np.nan], [0, 0, 0]])
    policy = softmax_policy(LISTS, scores, 0.5)
    for row, listed in enumerate([3, 2]):
        weights = [math.exp(score / 0.5) for score in scores[row, :listed]]
        expected = [weight / sum(weights) for weight in weights] + [0] * (3 - listed)
        assert policy.probabilities[row].tolist() == pytest.approx(expected)
    assert policy.probabilities[2].tolist() == [0, 0, 0]
    cold = softmax_policy(LISTS, scores * 1000, 1e-310)
    assert cold.probabilities[:2].tolist() == [[1, 0, 0], [0, 1, 0]]
    warm = softmax_policy(LISTS, scores, 1e9)
    assert warm.probabilities == pytest.approx(uniform_policy(LISTS).probabilities)


def test_the_share_of_choices_that_the_log_never_showed():
    policy = TargetPolicy(LISTS, np.array([[0.5, 0.3, 0.2], [0.6, 0.4, 0], [0, 0, 0]]))
    assert policy.share_never_shown(np.array([4, 7, 5])) == pytest.approx((0.3 + 0.6) / 2)
    assert policy.share_never_shown(np.unique(LISTS)) == 0
    assert uniform_policy(np.full((2, 3), -1)).share_never_shown(np.array([1])) == 0


@pytest.mark.parametrize(
    ("items", "scores", "temperature", "error", "text"),
    [
        (LISTS, np.zeros((3, 3)), 0.0, SettingsError, "temperature"),
        (LISTS, np.zeros((3, 2)), 1.0, DataError, "one score per item|scores of shape"),
        (np.array([[1, 1]]), np.zeros((1, 2)), 1.0, DataError, "twice"),
        (np.array([[1, 2]]), np.array([[0, np.inf]]), 1.0, DataError, "not finite"),
    ],
    ids=["temperature", "shape", "repeated", "infinite"],
)
def test_lists_that_make_no_policy(items, scores, temperature, error, text):
    with pytest.raises(error, match=text):
        softmax_policy(items, scores, temperature)
