"""Values of whole lists: against exact enumeration with the general pseudo-inverse, and by simulation.

``MOLAR_TEST_OFF_POLICY_RUNS=1000`` simulates so many logs; ``--log-cli-level=INFO`` tells what comes out.
"""

import logging
import os
from itertools import permutations, product

import numpy as np
import pytest

from molar_eval.kpi.impressions import Impressions
from molar_eval.kpi.slates import answerable, evaluate_slates
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap

LOG = logging.getLogger(__name__)
RUNS = int(os.environ.get("MOLAR_TEST_OFF_POLICY_RUNS", "60"))
PLACES, ITEMS, KINDS = 3, 4, 5


def _log(user, lists, propensity, reward):
    """Impressions of lists, shape (C, K); the reward of a request stands in its first row."""
    contexts, places = lists.shape
    context = np.repeat(np.arange(contexts), places)
    maps = [IdMap([str(i) for i in range(int(codes.max()) + 1)]) for codes in (context, user, lists)]
    rewards = np.zeros(lists.shape)
    rewards[:, 0] = reward
    codes = [np.asarray(values, np.int32) for values in (context, np.repeat(user, places), lists.ravel())]
    return Impressions(*maps, *codes, np.asarray(propensity, float).ravel(), rewards.ravel())


def _chances(random, shape, sharpness=1.0):
    weights = np.exp(sharpness * random.normal(size=shape))
    return weights / weights.sum(axis=-1, keepdims=True)


def _indicator(slate):
    found = np.zeros((PLACES, ITEMS))
    found[np.arange(PLACES), list(slate)] = 1
    return found.ravel()


def _chance(slate, policy):
    return float(np.prod([policy[k, item] for k, item in enumerate(slate)]))


def _every(logging, target, reward):
    """All lists once, as a log whose rows are to be weighed by how likely they are; ``reward`` of each list."""
    slates = np.array(list(product(range(ITEMS), repeat=PLACES)))
    chosen = np.arange(PLACES), slates
    log = _log(np.arange(len(slates)), slates, logging[chosen], [reward(tuple(slate)) for slate in slates])
    return log, target[chosen].ravel(), slates


def _estimates(log, target, count):
    """The value of pi of each list by itself."""
    single = []
    for n in range(count):
        rows = log.context == n
        one = _log(np.zeros(1, int), log.item[rows][None], log.propensity[rows][None], log.reward[rows].sum())
        single.append(evaluate_slates(one, target[rows], resamples=2).value("pi").mean)
    return np.array(single)


def test_weights_are_those_of_the_moore_penrose_pseudo_inverse():
    """Of the second moments of all lists, as Swaminathan and others define the estimator for any logging policy."""
    random = np.random.default_rng(1)
    logging, target = _chances(random, (PLACES, ITEMS)), _chances(random, (PLACES, ITEMS), 2.0)
    log, probabilities, slates = _every(logging, target, lambda slate: 1.0)
    chance = np.array([_chance(slate, logging) for slate in slates])
    shown = np.array([_indicator(slate) for slate in slates])
    moments = (shown * chance[:, None]).T @ shown
    expected = target.ravel() @ np.linalg.pinv(moments) @ shown.T
    assert _estimates(log, probabilities, len(slates)) == pytest.approx(expected, abs=1e-9)


def test_a_sum_over_places_is_estimated_without_bias_to_the_last_digit():
    random = np.random.default_rng(2)
    logging, target, worth = (_chances(random, (PLACES, ITEMS)) for _ in range(3))
    log, probabilities, slates = _every(logging, target, lambda slate: sum(worth[k, i] for k, i in enumerate(slate)))
    chance = np.array([_chance(slate, logging) for slate in slates])
    assert chance @ _estimates(log, probabilities, len(slates)) == pytest.approx((target * worth).sum())


def test_one_place_that_is_drawn_needs_no_sum():
    """The first two places are certain; what a list earns is any function of it, here of its last two items."""
    random = np.random.default_rng(3)
    logging, target = np.zeros((2, PLACES, ITEMS))
    logging[[0, 1], [2, 1]] = target[[0, 1], [2, 1]] = 1
    logging[2], target[2] = _chances(random, (2, ITEMS))
    worth = random.random((ITEMS, ITEMS))
    lists = np.array([[2, 1, item] for item in range(ITEMS)])
    earned = worth[lists[:, 1], lists[:, 2]]
    log = _log(np.arange(ITEMS), lists, np.stack([np.ones(ITEMS), np.ones(ITEMS), logging[2]], axis=1), earned)
    probabilities = np.stack([np.ones(ITEMS), np.ones(ITEMS), target[2]], axis=1).ravel()
    assert answerable(log, probabilities).all()
    assert logging[2] @ _estimates(log, probabilities, ITEMS) == pytest.approx(target[2] @ worth[1])


def test_several_places_drawn_without_putting_back_would_be_biased_and_are_left_out():
    """Two items of three, one after the other: the formula for independent places misses the truth."""
    weights, worth = np.array([0.6, 0.3, 0.1]), np.array([1.0, 0.0, 3.0])
    pairs = np.array(list(permutations(range(3), 2)))
    chance = np.array([weights[a] * weights[b] / (1 - weights[a]) for a, b in pairs])
    included = np.array([chance[(pairs == item).any(axis=1)].sum() for item in range(3)])
    log = _log(np.arange(6), pairs, included[pairs], worth[pairs].sum(axis=1))
    target = np.isin(pairs, (0, 2)).astype(float).ravel()
    naive = chance @ _estimates(log, target, 6)
    assert abs(naive - worth[[0, 2]].sum()) > 0.3
    assert not answerable(log, target).any()
    found = evaluate_slates(log, target, answerable(log, target))
    assert (found.values, found.requests) == ((), 0)
    assert "nothing about these lists" in found.warnings[0]


class World:
    """Requests of some kinds; each place and item has its own chance of a click, and people differ in theirs."""

    def __init__(self, seed):
        random = np.random.default_rng(seed)
        self.logging = _chances(random, (KINDS, PLACES, ITEMS), 0.7)
        self.target = _chances(random, (KINDS, PLACES, ITEMS), 1.0)
        self.worth = random.uniform(0.05, 0.6, (KINDS, PLACES, ITEMS))
        self.value = float((self.target * self.worth).sum(axis=(1, 2)).mean())
        self.gain = self.value - float((self.logging * self.worth).sum(axis=(1, 2)).mean())

    def log(self, random, users):
        user = np.repeat(np.arange(users), 1 + random.poisson(2, users))
        kind = random.integers(KINDS, size=len(user))
        cumulative = self.logging[kind].cumsum(axis=2)
        lists = np.minimum((random.random((len(user), PLACES, 1)) > cumulative).sum(axis=2), ITEMS - 1)
        chosen = kind[:, None], np.arange(PLACES), lists
        keen = random.choice([0.5, 1.5], users)[user]
        clicks = random.random(lists.shape) < self.worth[chosen] * keen[:, None]
        return _log(user, lists, self.logging[chosen], clicks.sum(axis=1)), self.target[chosen].ravel()


@pytest.mark.slow
def test_intervals_cover_the_truth_and_control_variates_take_out_noise():
    world, random = World(4), np.random.default_rng(5)
    found = [evaluate_slates(*world.log(random, 250), resamples=300, seed=run) for run in range(RUNS)]
    rmse = {}
    for name, truth in (("pi", world.value), ("pi_cv", world.value), ("pi_gain", world.gain)):
        values = [one.value(name) for one in found]
        errors = np.array([one.mean for one in values]) - truth
        covered = float(np.mean([one.low <= truth <= one.high for one in values]))
        rmse[name] = float(np.sqrt((errors**2).mean()))
        LOG.info("%s: bias %.4f, RMSE %.4f, covers %.3f", name, errors.mean(), rmse[name], covered)
        assert abs(errors.mean()) < 4 * errors.std(ddof=1) / np.sqrt(RUNS), name
        assert covered >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / RUNS), name
    assert rmse["pi_cv"] < 0.9 * rmse["pi"]
    assert np.mean([bool(one.warnings) for one in found]) < 0.1


def test_control_variates_are_fitted_on_other_users():
    """What is taken from a user's requests does not change with what this user earned."""
    world = World(6)
    log, target = world.log(np.random.default_rng(7), 60)
    own = log.user == 3
    lavish = Impressions(
        log.contexts, log.users, log.items, log.context, log.user, log.item, log.propensity,
        np.where(own, 10 * log.reward + 5, log.reward),
    )  # fmt: skip
    means = [evaluate_slates(one, target, resamples=2) for one in (log, lavish)]
    taken = [one.value("pi").mean - one.value("pi_cv").mean for one in means]
    assert taken[0] != taken[1]  # that of others does
    only = np.isin(np.arange(len(log.contexts)), log.context[own])
    assert evaluate_slates(log, target, only, resamples=2).value("pi_cv").mean == pytest.approx(
        evaluate_slates(log, target, only, resamples=2).value("pi").mean
    ), "one user has nobody else's requests to learn from"


def test_what_the_log_cannot_tell_is_said():
    world = World(8)
    log, target = world.log(np.random.default_rng(9), 800)
    never = np.where((np.arange(len(log)) % PLACES == 1) & (log.context % 2 == 0), 0, target)
    (said,) = evaluate_slates(log, never).warnings
    assert said.startswith("place 2: what the new policy shows there was never shown")
    halved = Impressions(
        log.contexts, log.users, log.items, log.context, log.user, log.item, log.propensity / 2, log.reward
    )
    assert any("propensities are too low" in text for text in evaluate_slates(halved, target).warnings)
    few, some = world.log(np.random.default_rng(10), 15)
    told = " ".join(evaluate_slates(few, some).warnings)
    assert "effective sample size" in told
    assert "users with a reward" in told
    part = np.arange(len(log.contexts)) % 2 == 0
    assert evaluate_slates(log, target, part).share == pytest.approx(0.5, abs=0.01)
    with pytest.raises(DataError, match="target probabilities of shape"):
        evaluate_slates(log, target[:-1])


def test_requests_that_keep_what_was_certain_can_be_told_of():
    lists = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]])
    propensity = np.array([[1, 1, 0.5], [1, 1, 0.5], [1, 0.5, 0.5], [1, 1, 1]])
    log = _log(np.arange(4), lists, propensity, np.ones(4))
    target = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1], [1, 1, 1]], float).ravel()
    assert answerable(log, target).tolist() == [True, False, False, True]
