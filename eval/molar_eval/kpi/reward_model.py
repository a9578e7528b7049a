"""A simple model of the reward, for the doubly robust estimator: fitted on other users than those it speaks of.

The reward of an item in a context is the sum of a linear function of a few features, by ridge regression, and of an
effect of the item, the mean of what the regression leaves of it, shrunk towards 0 as if :data:`SHRINK` more rows had
left nothing. Users are split into folds at random, and each fold is predicted by what the others teach (cross-fitting:
Chernozhukov et al. 2018, doi:10.1111/ectj.12097). The rewards of a user are therefore never part of what the model
predicts of them, and the estimator is unbiased whatever the model is worth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from molar_eval.kpi.impressions import Impressions
from molar_eval.kpi.target_policy import TargetPolicy
from molar_retrieval.errors import DataError
from molar_retrieval.rng import generator

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.integer]
Features: TypeAlias = Callable[[Rows, Rows], Floats]
"""From contexts and item rows, shapes (m,), to their features, shape (m, f); an item row may be -1, an unknown item."""
FOLDS = 5
SHRINK = 20.0
"""Rows without any effect that are added to those of each item."""
RIDGE = 10.0
"""Penalty of the squared coefficients of standardised features, in rows."""


@dataclass(frozen=True, eq=False)
class ModelledReward:
    """What a model expects.

    Attributes:
        predicted: The reward of each row's item in its context, shape (n,).
        expected: Of each context the sum over what the new policy shows there, by its probability, shape (C,).
    """

    predicted: Floats
    expected: Floats


def modelled_reward(
    log: Impressions, policy: TargetPolicy, items: Rows, features: Features, *, folds: int = FOLDS, seed: int = 0
) -> ModelledReward:
    """Model the rewards of a log for a policy.

    Args:
        log: Impressions of at least two users.
        policy: The new policy; its items are rows of the same catalogue as ``items``.
        items: The catalogue's row of each shown item, -1 where it has none, shape (n,).
        features: What the regression sees.
        folds: Into how many parts users are split; no more than there are users.
        seed: Of the split.

    Raises:
        DataError: If there are fewer than two users, or a feature is not finite.
    """
    users = len(log.users)
    if users < 2:
        raise DataError("a model of the reward needs impressions of two users", "log more of them")
    fold = generator(seed, "kpi", "folds").permutation(users) % min(folds, users)
    context, place = np.nonzero((policy.items >= 0) & (policy.probabilities > 0))
    listed, chance = policy.items[context, place], policy.probabilities[context, place]
    of_shown, of_listed = (_finite(features(*pair)) for pair in ((log.context, items), (context, listed)))
    effects = int(max(items.max(initial=-1), listed.max(initial=-1))) + 2  # the last one: of unknown items
    predicted, expected = np.zeros(len(log)), np.zeros(len(log.contexts))
    own, listed_own = fold[log.user], fold[log.user[log.first]][context]
    for part in range(int(fold.max()) + 1):
        others, these, lists = own != part, own == part, listed_own == part
        model = _Model.fitted(of_shown[others], items[others], log.reward[others], effects)
        predicted[these] = model.rewards(of_shown[these], items[these])
        values = chance[lists] * model.rewards(of_listed[lists], listed[lists])
        expected += np.bincount(context[lists], values, minlength=len(expected))
    return ModelledReward(predicted, expected)


@dataclass(frozen=True, eq=False)
class _Model:
    centre: Floats
    coefficients: Floats
    mean: float
    effect: Floats  # by item row; the last one is 0, of unknown items, whose row is -1

    @classmethod
    def fitted(cls, features: Floats, items: Rows, reward: Floats, effects: int) -> "_Model":
        centre, mean = features.mean(axis=0), float(reward.mean())
        centred, spread = features - centre, features.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        ridge = centred.T @ centred + np.diag(RIDGE * scale**2)
        coefficients = np.linalg.solve(ridge, centred.T @ (reward - mean))
        left = reward - mean - centred @ coefficients
        known = items >= 0
        sums, counts = (
            np.bincount(items[known], weights, minlength=effects) for weights in (left[known], np.ones(known.sum()))
        )
        return cls(centre, coefficients, mean, sums / (counts + SHRINK))

    def rewards(self, features: Floats, items: Rows) -> Floats:
        found: Floats = self.mean + (features - self.centre) @ self.coefficients + self.effect[items]
        return found


def _finite(features: Floats) -> Floats:
    if not np.isfinite(features).all():
        raise DataError("a feature of the model of the reward is not finite", "give finite numbers")
    return np.asarray(features, np.float64)
