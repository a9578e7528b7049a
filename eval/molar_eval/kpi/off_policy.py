"""Off-policy evaluation: IPS, SNIPS, doubly robust, with diagnostics of the weights.

The reward of an item in a context is the sum of a linear function of a few features, by ridge regression, and of an
effect of the item, the mean of what the regression leaves of it, shrunk towards 0 as if :data:`SHRINK` more rows had
left nothing. Users are split into folds at random, and each fold is predicted by what the others teach (cross-fitting:
Chernozhukov et al. 2018, doi:10.1111/ectj.12097). The rewards of a user are therefore never part of what the model
predicts of them, and the estimator is unbiased whatever the model is worth.

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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from molar_eval.kpi.impressions import Impressions
from molar_eval.statistics import ConfidenceInterval, UserRatios
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.rng import generator

Floats = npt.NDArray[np.float64]
FEW_ROWS = 100
"""Effective rows below which the intervals were seen to cover less than they claim (docs/kpi.md)."""
FEW_USERS = 20
"""Users with a reward below which the same holds."""
MEAN_LEVEL = 0.99
"""Level of the interval of the mean weight, high because it raises an alarm."""
_NEAR = 0.01
"""Departure of the mean weight from 1 that rounded propensities may cause."""


@dataclass(frozen=True)
class WeightFacts:
    """Diagnostics of the importance weights, before clipping unless it says otherwise.

    Attributes:
        mean: Mean weight with its 99 % interval. Its expectation is 1 if the propensities are right and the logging
            policy can show all that the new policy shows; below 1 by the share of the new policy that it cannot show.
        largest: Largest weight.
        effective_rows: Kish's effective sample size of the weights as used, clipped or not: the number of equally
            weighted rows that tell as much.
        clipped_rows: Rows whose weight was cut.
        clipped_share: Share of the sum of weights that was cut off.
    """

    mean: ConfidenceInterval
    largest: float
    effective_rows: float
    clipped_rows: int
    clipped_share: float


def importance_weights(log: Impressions, target: Floats) -> Floats:
    """New policy's probability of each shown item over the logging policy's, shape (n,).

    Raises :class:`DataError` without rows, or if not every row has a target probability in [0, 1].
    """
    if not len(log):
        raise DataError("the log of impressions is empty", "log what is shown first")
    if target.shape != (len(log),):
        raise DataError(
            f"target probabilities of shape {target.shape} for {len(log)} impressions", "give one per impression"
        )
    wrong = ~((target >= 0) & (target <= 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"target probability {row + 1} is {target[row]}", "give probabilities between 0 and 1")
    weights: Floats = target / log.propensity
    return weights


def effective_rows(weights: Floats) -> float:
    """``(Σw)² / Σw²``, 0 where all weights are 0; Kish 1965, Survey Sampling."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def clipped(weights: Floats, clip: float | None) -> Floats:
    """The weights, none above ``clip``, which has to be positive: else :class:`SettingsError`.

    Source: Ionides 2008, Truncated importance sampling, doi:10.1198/106186008X320456.
    """
    if clip is None:
        return weights
    if not clip > 0:
        raise SettingsError(f"weights are to be clipped at {clip}", "clip at a number above 0, for example 50")
    return np.minimum(weights, clip)


def weight_facts(raw: Floats, used: Floats, mean: ConfidenceInterval) -> WeightFacts:
    """Diagnostics of the weights before (``raw``) and after clipping, given the interval of their mean."""
    return WeightFacts(
        mean=mean,
        largest=float(raw.max()),
        effective_rows=effective_rows(used),
        clipped_rows=int((raw > used).sum()),
        clipped_share=float(1 - used.sum() / raw.sum()) if raw.any() else 0.0,
    )


def weight_warnings(log: Impressions, used: Floats, facts: WeightFacts) -> list[str]:
    """What a reader has to know before believing an estimate made with these weights (``used``: after clipping)."""
    mean, several = facts.mean, len(log.users) > 1
    certain = float((log.propensity == 1).mean())
    off = f"mean weight {mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}] instead of 1"
    earning = len(np.unique(log.user[(used > 0) & (log.reward != 0)]))
    bias = "downwards" if (log.reward >= 0).all() else "in an unknown direction, as some rewards are negative,"
    warnings = [
        (
            several and certain > 0,
            f"{certain:.1%} of the rows have propensity 1: nothing else could be shown there, so the log cannot tell "
            "what another item would have brought",
        ),
        (
            several and mean.high < 1 and mean.mean < 1 - _NEAR,
            f"{off}: about {1 - mean.mean:.1%} of what the new policy shows was never shown in such contexts, or "
            "propensities are too high. IPS counts that share as reward 0, a model of the reward as what it expects; "
            "SNIPS and replay describe only the rest",
        ),
        (
            several and mean.low > 1 and mean.mean > 1 + _NEAR,
            f"{off}: the propensities are too low, or belong to other rows; the estimates are wrong with them",
        ),
        (
            facts.effective_rows < FEW_ROWS,
            f"effective sample size {facts.effective_rows:.1f} of {len(log)} rows: the estimates hang on a few rows "
            f"and their intervals are too narrow; at least {FEW_ROWS} are needed",
        ),
        (
            earning < FEW_USERS,
            f"{earning} users with a reward under the new policy: too few for an interval, which takes {FEW_USERS}",
        ),
        (
            facts.clipped_rows > 0,
            f"{facts.clipped_rows} weights were clipped, {facts.clipped_share:.1%} of their sum: IPS is biased {bias} "
            "by at most the cut-off weight per row times the largest reward; the interval does not contain that bias",
        ),
    ]
    return [text for holds, text in warnings if holds]


@dataclass(frozen=True, eq=False)
class TargetPolicy:
    """A policy that shows one item per request, drawn from the context's list, or all of the list.

    ``items`` are the lists' item rows, -1 where one is shorter, shape (C, k); ``probabilities`` those of showing each,
    shape (C, k): each row adds up to the number of items that are shown, 0 where the list is empty.
    """

    items: npt.NDArray[np.integer]
    probabilities: Floats

    def of(self, context: npt.NDArray[np.integer], item: npt.NDArray[np.integer]) -> Floats:
        """The probability of showing ``item`` in ``context``, shapes (n,); 0 for an item that is not in the list."""
        found = np.zeros(len(context))
        for items, probabilities in zip(self.items.T, self.probabilities.T, strict=True):
            found += np.where((items[context] == item) & (item >= 0), probabilities[context], 0.0)
        return found

    def share_never_shown(self, shown: npt.NDArray[np.integer]) -> float:
        """The share of the policy's choices that fall on items outside ``shown`` (item rows): no log can value them."""
        total = float(self.probabilities.sum())
        outside = ~np.isin(self.items, shown)
        return float(self.probabilities[outside].sum()) / total if total else 0.0


def uniform_policy(items: npt.NDArray[np.integer]) -> TargetPolicy:
    """Each item of a list equally often; lists of length 1 are the deterministic policy that shows the first."""
    return softmax_policy(items, np.zeros(items.shape), 1.0)


def whole_lists(items: npt.NDArray[np.integer]) -> TargetPolicy:
    """All items of a list at once, shape (C, k), -1 where one is shorter."""
    return TargetPolicy(items, (items >= 0).astype(np.float64))


def softmax_policy(
    items: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], temperature: float
) -> TargetPolicy:
    """Items by ``exp(score / temperature)`` within each list (Boltzmann exploration).

    Both arrays have shape (C, k); the temperature has the unit of the scores: towards 0 the best item is always shown,
    towards infinity all equally. Raises :class:`SettingsError` if it is not positive, :class:`DataError` if the shapes
    differ, a list repeats an item, or a listed item's score is not finite.
    """
    if not temperature > 0:
        raise SettingsError(f"the temperature is {temperature}", "give a number above 0")
    if items.ndim != 2 or items.shape != scores.shape:
        raise DataError(f"lists of shape {items.shape} and scores of shape {scores.shape}", "give one score per item")
    listed = items >= 0
    ordered = np.sort(items, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise DataError("a list has an item twice", "list each item once")
    if not np.isfinite(scores[listed]).all():
        raise DataError("the score of a listed item is not finite", "leave out items that cannot be scored")
    finite = np.where(listed, scores, -np.inf).astype(np.float64)
    best = finite.max(axis=1, keepdims=True, initial=-np.inf)
    below = finite - np.where(np.isfinite(best), best, 0.0)
    with np.errstate(over="ignore"):  # beyond the largest number the weight is 0 all the same
        weights = np.exp(below / temperature)
    total = weights.sum(axis=1, keepdims=True)
    return TargetPolicy(items, weights / np.where(total > 0, total, 1.0))


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
            see :mod:`molar_eval.kpi.off_policy`.
        model: What a model of the reward expects of this policy, see :mod:`molar_eval.kpi.off_policy`; None: no DR.
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
