"""Off-policy evaluation: what another policy would have earned, from a log of what was shown.

A row i says that in context xᵢ the logging policy showed item aᵢ, which it did with probability pᵢ, and that the reward
was rᵢ. With πᵢ the new policy's probability of showing aᵢ in xᵢ, and the weight wᵢ = πᵢ / pᵢ,

=======  ====================  ==================================================================================
logged    mean of rᵢ            what the logging policy earned: the yardstick
replay    mean of rᵢ, accepted  rows where the new policy, drawn once, agrees with the log; uniform logging only
ips       mean of wᵢrᵢ          unbiased, noisy where weights are large
snips     Σwᵢrᵢ / Σwᵢ           slightly biased in small logs, mostly less noisy, within the range of the rewards
gain      mean of (wᵢ − 1)rᵢ    IPS minus logged on the same rows: above 0, the new policy earns more
dr       q̂(π) + wᵢ(rᵢ − q̂ᵢ)     doubly robust: what a model of the reward expects of the new policy, put right by
                               what the log shows; unbiased like IPS, and less noisy the better the model is
dr_gain  dr − logged           the same against logged on the same rows
=======  ====================  ==================================================================================

All of them are rewards per row and assume that

1. *the propensities are right*: recorded when the item was shown, for this item in this context;
2. *support*: whatever the new policy may show, the logging policy could show in that context. Where it could not, its
   log says nothing. The mean weight then falls below 1 by the share of the new policy that is missing: IPS counts that
   share as reward 0, DR as what its model expects, SNIPS and replay silently describe the rest;
3. *no hidden reasons*: given the context, showing an item had nothing to do with its reward. What chose the item has to
   be in the context that the new policy also sees, and the new policy must not be fitted on these very rewards;
4. *no interference*: a reward depends on the row's item only, not on other rows, other items of the slate, or what the
   user was shown before; and users do not influence each other;
5. *the future is like the log*: the same users, catalogue and season.

Several rows of a context are the slots of one slate: then 4 says that slots do not influence each other, and the result
is the reward per slot.

Intervals are bootstrap-t with whole users drawn (:mod:`molar_eval.statistics.bootstrap`): with skewed weights the
percentile bootstrap and the normal approximation cover less. They cannot know of a large weight that the log happens
not to contain, so no interval is better than its effective sample size.

Source:
    IPS: Horvitz and Thompson 1952, doi:10.2307/2280784; Strehl, Langford, Li and Kakade 2010, arXiv:1003.0120.
    SNIPS: Swaminathan and Joachims 2015, The self-normalized estimator for counterfactual learning, NeurIPS.
    Replay: Li, Chu, Langford and Wang 2011, doi:10.1145/1935826.1935878.
    Doubly robust: Dudík, Langford and Li 2011, arXiv:1103.4601.
    Support: Sachdeva, Su and Joachims 2020, arXiv:2006.09438.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from molar_eval.kpi.impressions import Impressions
from molar_eval.kpi.reward_model import ModelledReward
from molar_eval.kpi.weights import MEAN_LEVEL, WeightFacts, clipped, importance_weights, weight_facts, weight_warnings
from molar_eval.statistics.bootstrap import UserRatios
from molar_retrieval.errors import DataError
from molar_retrieval.rng import generator

Floats = npt.NDArray[np.float64]
Estimator = Literal["logged", "replay", "ips", "snips", "gain", "dr", "dr_gain"]
_SAME = 1e-6
"""Relative difference up to which propensities count as equal."""
_ROUNDING = 1e-12
"""Relative width up to which an interval is no interval."""


@dataclass(frozen=True)
class PolicyValue:
    """An estimate of the reward per row.

    Attributes:
        estimator: Which; see the module's text.
        mean: The estimate, in the unit of the reward.
        low: Lower end of the interval; None where nothing varies among the users, so that there is no telling.
        high: Upper end, likewise.
        rows: Rows with a weight other than 0.
    """

    estimator: Estimator
    mean: float
    low: float | None
    high: float | None
    rows: int


@dataclass(frozen=True)
class PolicyEvaluation:
    """What a log says about a new policy.

    Attributes:
        values: The estimates that can be made: always logged, ips and gain; snips and replay where rows agree; dr and
            dr_gain where there is a model of the reward.
        weights: Diagnostics of the weights.
        warnings: Sentences that have to stand beside the numbers; empty if nothing is wrong.
    """

    values: tuple[PolicyValue, ...]
    weights: WeightFacts
    warnings: tuple[str, ...]

    def value(self, estimator: Estimator) -> PolicyValue | None:
        """One estimate, None where it cannot be made."""
        return next((value for value in self.values if value.estimator == estimator), None)


def evaluate_policy(
    log: Impressions,
    target_probabilities: npt.NDArray[np.floating],
    *,
    model: ModelledReward | None = None,
    clip: float | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PolicyEvaluation:
    """Estimate what the new policy would have earned per row; read the module's assumptions first.

    Args:
        log: Impressions of a stochastic logging policy.
        target_probabilities: With what probability the new policy shows each row's item in its context, shape (n,);
            see :mod:`molar_eval.kpi.target_policy`.
        model: What a model of the reward expects of this policy, see :mod:`molar_eval.kpi.reward_model`; None: no DR.
        clip: Largest weight of all but replay; None: as they are. Clipping trades variance for a bias that the
            intervals do not contain: towards 0 for rewards that are not negative.
        level: Nominal coverage of the intervals.
        resamples: Bootstrap samples; whole users are drawn.
        seed: Of the bootstrap, and of replay's draw from a stochastic policy.

    Raises:
        DataError: If the log is empty, or the probabilities or the model do not fit it or are none.
        SettingsError: If ``clip`` is not positive.
    """
    target = np.asarray(target_probabilities, np.float64)
    raw = importance_weights(log, target)
    used, ones = clipped(raw, clip), np.ones(len(log))
    sample = _Sample(log, resamples, seed)
    agree = (generator(seed, "kpi", "replay").random(len(log)) < target).astype(np.float64)
    not_uniform = _not_uniform(log.propensity)
    estimators: list[tuple[Estimator, Floats, Floats, Floats]] = [("logged", ones, log.reward, ones)]
    if not not_uniform:
        estimators.append(("replay", agree, agree * log.reward, agree))
    earned = used * log.reward
    estimators += [("ips", used, earned, ones), ("snips", used, earned, used)]
    estimators.append(("gain", used - 1, earned - log.reward, ones))
    if model is not None:
        robust = _doubly_robust(log, used, model)
        estimators += [("dr", used, robust, ones), ("dr_gain", used, robust - log.reward, ones)]
    values = tuple(sample.value(*one, level) for one in estimators if one[-1].any())
    facts = weight_facts(raw, used, sample.ratio(raw, ones, MEAN_LEVEL))
    return PolicyEvaluation(values, facts, (*weight_warnings(log, used, facts), *_gaps(values, used, not_uniform)))


class _Sample(UserRatios):
    """Estimates over the rows of a log; all arrays have shape (n,)."""

    def __init__(self, log: Impressions, resamples: int, seed: int) -> None:
        super().__init__(log.user, len(log.users), resamples=resamples, seed=seed)
        self._binary = bool(np.isin(log.reward, (0.0, 1.0)).all())

    def value(self, name: Estimator, weight: Floats, top: Floats, bottom: Floats, level: float) -> PolicyValue:
        found = self.ratio(top, bottom, level)
        rows = int(np.count_nonzero(weight))
        if found.high - found.low <= _ROUNDING * max(1.0, abs(found.mean)):
            return PolicyValue(name, found.mean, None, None, rows)
        if not self._binary:
            return PolicyValue(name, found.mean, found.low, found.high, rows)
        least = -1.0 if name in ("gain", "dr_gain") else 0.0
        low, high = max(found.low, min(least, found.mean)), min(found.high, max(1.0, found.mean))
        return PolicyValue(name, found.mean, low, high, rows)


def _doubly_robust(log: Impressions, used: Floats, model: ModelledReward) -> Floats:
    """What each row adds, shape (n,); what the model expects of a context is with the context's first row."""
    shapes = (model.predicted.shape, model.expected.shape)
    if shapes != ((len(log),), (len(log.contexts),)):
        raise DataError(f"a model of the reward with shapes {shapes}", "give one for each impression and each context")
    found: Floats = used * (log.reward - model.predicted)
    found[log.first] += model.expected
    return found


def _not_uniform(propensity: Floats) -> str | None:
    """Why a log was not made by uniform draws from one number of items; None where it may have been."""
    least, most = float(propensity.min()), float(propensity.max())
    if most - least > _SAME * most:
        return f"replay needs uniform logging, but the propensities go from {least:.3g} to {most:.3g}"
    return "the logging policy was deterministic (all propensities are 1)" if least == 1 else None


def _gaps(values: tuple[PolicyValue, ...], used: Floats, not_uniform: str | None) -> list[str]:
    found = []
    if not_uniform:
        found.append(f"no replay estimate: {not_uniform}")
    if not used.any():
        found.append("the new policy shows none of the logged items in their contexts: the log says nothing about it")
    elif not not_uniform and all(value.estimator != "replay" for value in values):
        found.append("no replay estimate: the policy, drawn once in each context, agrees with no row")
    flat = [value.estimator for value in values if value.low is None]
    if flat:
        found.append(f"no interval for {', '.join(flat)}: nothing varies between users, so it cannot be told")
    return found
