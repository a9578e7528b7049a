"""Differential privacy: an attack that measures a lower bound of ε."""

import json
from dataclasses import replace

import numpy as np
import pytest
from dp_attack import _chance, audit, epsilon_bound
from eval_model_tasks import log_of

from molar_retrieval.errors import DataError
from molar_retrieval.privacy.dp_release import dp_release
from molar_retrieval.privacy.mechanism import GaussianMechanism

N_ITEMS = 200
RANDOM = np.random.default_rng(2)
LOG = log_of([list(RANDOM.permutation(N_ITEMS)[: RANDOM.integers(2, 15)]) for _ in range(300)], N_ITEMS)
FEATURES = RANDOM.normal(size=(N_ITEMS, 16)).astype(np.float32)


def test_the_bound_is_the_one_of_a_binomial_test_without_delta():
    """With δ = 0, the lower bound of ε that the attack reports is that of an exact binomial test."""
    from scipy.stats import binomtest

    for guesses, right in ((50, 50), (50, 40), (400, 260)):
        share = binomtest(right, guesses, alternative="greater").proportion_ci(0.95).low
        assert epsilon_bound(2 * guesses, guesses, right, 0.0) == pytest.approx(np.log(share / (1 - share)), abs=1e-6)
    assert epsilon_bound(100, 50, 25, 1e-6) == 0
    assert epsilon_bound(100, 50, 50, 1e-3) < epsilon_bound(100, 50, 50, 1e-6)


def test_delta_takes_what_the_steepest_step_of_the_chance_gives():
    """The lower bound of ε that the attack reports subtracts δ by the formula of the paper."""
    from scipy.stats import binom

    planted, guesses, right, epsilon, delta = 100, 50, 44, 1.3, 1e-3
    likely, steepest, total = 1 / (1 + np.exp(-epsilon)), 0.0, 0.0
    for step in range(1, right + 1):
        total += binom.pmf(right - step, guesses, likely)
        steepest = max(steepest, total / step)
    expected = binom.sf(right - 1, guesses, likely) + steepest * delta * 2 * planted
    assert _chance(planted, guesses, right, epsilon, delta) == pytest.approx(expected)


@pytest.mark.parametrize("epsilon", [1, 4, 8])
def test_releases_hold_what_they_promise_and_without_noise_the_attack_succeeds(epsilon, rounds, measured):
    """A release of statistics at ε reveals no more about a user than ε allows, measured with planted users"""
    found = audit(LOG, FEATURES, GaussianMechanism.of(epsilon), runs=rounds(3, 20))
    measured(f"ε = {epsilon}: at least {max(run.epsilon for run in found.runs):.2f} of {len(found.runs)} releases")
    assert found.planted == N_ITEMS // 2
    assert [run.epsilon <= epsilon for run in found.runs] == [True] * len(found.runs)
    assert found.without_noise >= 0.95
    assert json.loads(json.dumps(found.to_dict()))["holds"]


def test_noise_that_is_too_little_is_found_out():
    """Noise that is too small (ε = 200 declared as 1) is detected by the attack."""
    weak = replace(GaussianMechanism.of(200), epsilon=1.0)
    found = audit(LOG, FEATURES, weak, runs=2)
    assert not found.holds
    assert max(run.epsilon for run in found.runs) > 2


def test_pairs_that_are_surely_released_are_attacked_too():
    """The attack covers pairs of items above the release threshold."""
    often = log_of([*([[0, 1]] * 400), *([[2, 3]] * 300), *([[n, n + 1] for n in range(4, 80, 2)])], 80)
    features = FEATURES[:80]
    with_pairs = audit(often, features, replace(GaussianMechanism.of(60), epsilon=0.1), runs=1)
    assert not with_pairs.holds
    seen = []

    def told(log, *rest):
        seen.append(log)
        return dp_release(log, *rest)

    audit(often, features, GaussianMechanism.of(4), runs=1, releasing=told)
    (planted,) = [log for log in seen if log.users.array[0].as_py().startswith("made up")]
    assert planted.item[:4].tolist() == [0, 1, 2, 3]
    assert sorted(planted.item.tolist()) == list(range(80))


def test_releases_without_pairs_or_looks_are_attacked_by_what_is_in_them():
    """The attack covers releases of popularity without pairs."""

    def fewer(log, features, mechanism):
        released = dp_release(log, features, mechanism)
        if not mechanism.sigma:
            return released
        bare = {name: value for name, value in released.deviations.items() if name == "popularity"}
        return replace(released, transitions=np.zeros((N_ITEMS, 0)), pairs=released.pairs * 0, deviations=bare)

    weak = replace(GaussianMechanism.of(400), epsilon=1.0)
    assert not audit(LOG, FEATURES, weak, runs=2, releasing=fewer).holds
    assert audit(LOG, FEATURES, GaussianMechanism.of(1), runs=2, releasing=fewer).holds


def test_a_log_with_too_few_items_cannot_be_audited():
    """A log with too few items for planted users is refused, not passed."""
    with pytest.raises(DataError, match="10 people are too few"):
        audit(log_of([[0, 1], [2, 3]], 20), FEATURES[:20], GaussianMechanism.of(4))
