"""The doubly robust estimator: against another implementation and plain Python, its model, and what it is worth.

``MOLAR_TEST_OFF_POLICY_RUNS=1000`` simulates so many logs of each kind; ``--log-cli-level=INFO`` tells what comes out.
"""

import logging
import os

import numpy as np
import pytest

from molar_eval.kpi.impressions import Impressions
from molar_eval.kpi.off_policy import RIDGE, SHRINK, ModelledReward, TargetPolicy, evaluate_policy, modelled_reward
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap

LOG = logging.getLogger(__name__)
RUNS = int(os.environ.get("MOLAR_TEST_OFF_POLICY_RUNS", "60"))
KINDS, ITEMS = 12, 8


def _log(user, item, propensity, reward, context=None):
    context = np.arange(len(user)) if context is None else context
    maps = [IdMap([str(i) for i in range(int(codes.max()) + 1)]) for codes in (context, user, item)]
    codes = [np.asarray(values, np.int32) for values in (context, user, item)]
    return Impressions(*maps, *codes, np.asarray(propensity, float), np.asarray(reward, float))


def _softmax(scores):
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


class World:
    """Contexts of some kinds, each equally frequent; people click .5 or 1.5 times as often as the table says."""

    def __init__(self, seed):
        random = np.random.default_rng(seed)
        appeal = random.normal(size=(KINDS, ITEMS))
        self.click = 0.5 / (1 + np.exp(-2 * appeal))
        self.logging = _softmax(0.6 * random.normal(size=(KINDS, ITEMS)))
        self.target = _softmax(2 * appeal)
        self.noise = random.normal(size=(KINDS, ITEMS))
        self.value = float((self.target * self.click).sum(axis=1).mean())
        self.gain = self.value - float((self.logging * self.click).sum(axis=1).mean())

    def log(self, random, users):
        n = 1 + random.poisson(3, users)
        user = np.repeat(np.arange(users), n)
        kind = random.integers(KINDS, size=len(user))
        cumulative = self.logging.cumsum(axis=1)[kind]
        item = np.minimum((random.random(len(user))[:, None] > cumulative).sum(axis=1), ITEMS - 1)
        keen = random.choice([0.5, 1.5], users)[user]
        clicked = random.random(len(user)) < self.click[kind, item] * keen
        return _log(user, item, self.logging[kind, item], clicked), kind

    def evaluated(self, random, seed, table, users=250):
        log, kind = self.log(random, users)
        policy = TargetPolicy(np.broadcast_to(np.arange(ITEMS), (len(kind), ITEMS)), self.target[kind])
        model = modelled_reward(log, policy, log.item, lambda c, i: table[kind[c], i][:, None], seed=seed)
        return evaluate_policy(log, self.target[kind, log.item], model=model, resamples=300, seed=seed)


def _simulated(world, table, seed):
    random = np.random.default_rng(seed)
    return [world.evaluated(random, run, table) for run in range(RUNS)]


def _errors(found, name, truth):
    return np.array([one.value(name).mean for one in found]) - truth


def _covered(found, name, truth):
    return float(np.mean([one.value(name).low <= truth <= one.value(name).high for one in found]))


@pytest.mark.slow
def test_with_a_right_model_it_is_closer_to_the_truth_than_ips_and_with_a_wrong_one_unbiased():
    world = World(1)
    ratios = {}
    for kind, table in {"right": world.click, "wrong": world.noise}.items():
        found = _simulated(world, table, 11)
        for name, truth in (("dr", world.value), ("dr_gain", world.gain), ("ips", world.value), ("gain", world.gain)):
            errors, covered = _errors(found, name, truth), _covered(found, name, truth)
            rmse = np.sqrt((errors**2).mean())
            LOG.info("%s model, %s: bias %.4f, RMSE %.4f, covers %.3f", kind, name, errors.mean(), rmse, covered)
            assert abs(errors.mean()) < 4 * errors.std(ddof=1) / np.sqrt(RUNS), (kind, name)
            assert covered >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / RUNS), (kind, name)
        dr, ips = (_errors(found, name, world.value) for name in ("dr", "ips"))
        ratios[kind] = np.sqrt((dr**2).mean() / (ips**2).mean())
    assert ratios["right"] < 0.9
    assert ratios["wrong"] < 1.05


def test_it_is_what_the_open_bandit_pipeline_computes():
    from obp import ope

    world, random = World(2), np.random.default_rng(3)
    log, kind = world.log(random, 100)
    predicted = random.uniform(0, 1, (len(log), ITEMS))
    own = ModelledReward(predicted[np.arange(len(log)), log.item], (world.target[kind] * predicted).sum(axis=1))
    facts = {
        "reward": log.reward, "action": log.item.astype(int), "position": np.zeros(len(log), int),
        "pscore": log.propensity, "action_dist": world.target[kind][:, :, None],
        "estimated_rewards_by_reg_model": predicted[:, :, None],
    }  # fmt: skip
    found = evaluate_policy(log, world.target[kind, log.item], model=own, resamples=20)
    assert found.value("dr").mean == pytest.approx(ope.DoublyRobust().estimate_policy_value(**facts), rel=1e-12)
    del facts["estimated_rewards_by_reg_model"]
    for name, other in (
        ("ips", ope.InverseProbabilityWeighting),
        ("snips", ope.SelfNormalizedInverseProbabilityWeighting),
    ):
        assert found.value(name).mean == pytest.approx(other().estimate_policy_value(**facts), rel=1e-12)


def test_several_rows_of_a_context_count_what_is_expected_of_it_once():
    """Two contexts of two places each; by hand."""
    log = _log(np.array([0, 0, 1, 1]), np.arange(4), [1, 0.5, 1, 0.25], [1, 0, 0, 1], np.array([0, 0, 1, 1]))
    model = ModelledReward(np.array([0.5, 0.2, 0.5, 0.2]), np.array([0.8, 0.6]))
    found = evaluate_policy(log, np.array([1.0, 1.0, 0.0, 1.0]), model=model, resamples=20)
    by_hand = (0.8 + 0.6 + 1 * (1 - 0.5) + 2 * (0 - 0.2) + 4 * (1 - 0.2)) / 4
    assert found.value("dr").mean == pytest.approx(by_hand)
    assert found.value("dr_gain").mean == pytest.approx(by_hand - 0.5)


def _policy(contexts):
    return TargetPolicy(np.tile([0, 2, -1], (contexts, 1)), np.tile([0.75, 0.25, 0.0], (contexts, 1)))


def _features(context, item):
    return np.stack([np.sin(context), item + 0.0], axis=1)


def test_a_user_is_predicted_by_others_alone():
    random = np.random.default_rng(5)
    user, item = np.repeat(np.arange(30), 4), random.integers(3, size=120)
    reward = random.random(120)
    other = np.where(user == 7, 100.0, reward)
    before, after = (
        modelled_reward(_log(user, item, np.full(120, 0.3), values), _policy(120), item, _features)
        for values in (reward, other)
    )
    own = user == 7
    assert (before.predicted[own] == after.predicted[own]).all()
    assert (before.expected[own] == after.expected[own]).all()
    assert (before.predicted[~own] != after.predicted[~own]).mean() > 0.7


def test_the_model_is_ridge_regression_and_shrunken_effects_of_items():
    """With two users each is predicted by the other one; that is worked out with the normal equations of n + f rows."""
    random = np.random.default_rng(6)
    user, item = np.repeat([0, 1], 40), np.append(random.integers(3, size=79), -1)
    reward = random.random(80) + (item == 1)
    log = _log(user, np.maximum(item, 0), np.full(80, 0.3), reward)
    found = modelled_reward(log, _policy(80), item, _features)
    x, y = _features(np.arange(40), item[:40]), reward[:40]
    centre, scale = x.mean(axis=0), x.std(axis=0)
    tall = np.concatenate([(x - centre) / scale, np.sqrt(RIDGE) * np.eye(2)])
    slope = np.linalg.lstsq(tall, np.append(y - y.mean(), [0, 0]), rcond=None)[0]
    left = y - y.mean() - (x - centre) / scale @ slope
    effect = [sum(left[item[:40] == i]) / ((item[:40] == i).sum() + SHRINK) for i in range(3)] + [0.0]

    def of(context, row):
        value = (_features(np.array([context]), np.array([row])) - centre) / scale @ slope
        return y.mean() + value[0] + effect[row]

    assert found.predicted[40:] == pytest.approx([of(c, item[c]) for c in range(40, 80)])
    assert found.expected[40:] == pytest.approx([0.75 * of(c, 0) + 0.25 * of(c, 2) for c in range(40, 80)])


def test_a_model_that_does_not_fit_the_log_is_refused():
    log = _log(np.arange(4), np.arange(4), np.full(4, 0.5), np.ones(4))
    with pytest.raises(DataError, match="shapes"):
        evaluate_policy(log, np.ones(4), model=ModelledReward(np.ones(4), np.ones(3)))
    with pytest.raises(DataError, match="not finite"):
        modelled_reward(log, _policy(4), log.item, lambda c, i: np.full((len(c), 1), np.nan))
    alone = _log(np.zeros(4, int), np.arange(4), np.full(4, 0.5), np.ones(4))
    with pytest.raises(DataError, match="two users"):
        modelled_reward(alone, _policy(4), alone.item, _features)
