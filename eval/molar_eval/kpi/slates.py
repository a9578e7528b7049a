"""Off-policy evaluation of whole lists, by what comes of a request and not of each place.

A request showed a list (a *slate*) of K places and earned R, clicks of all places or an amount that belongs to none of
them. The place k was filled with probability μₖ, independently of the other places; the new policy would fill it so
with νₖ; their ratio is Yₖ = νₖ / μₖ. Weighing whole lists by ∏ Yₖ is hopeless for more than two places. Where R is
expected to be a sum over places, of anything that depends on the item, the place and the context,

========  ======================================  =================================================================
logged     mean of R                               what the logging policy earned
pi         mean of R·G, G = 1 + Σₖ (Yₖ − 1)        the pseudo-inverse estimator; unbiased
pi_cv      mean of R·G − Σₖ βₖ (Yₖ − 1)            with a control variate for each place: Yₖ − 1 is known to be 0 on
                                                   average, so it takes out noise and adds no bias
pi_gain    mean of R·(G − 1) − Σₖ βₖ (Yₖ − 1)      the same against logged, with its own β
========  ======================================  =================================================================

all per request. β is the regression on other users' requests (:data:`FOLDS` folds), which keeps pi_cv unbiased.

What it may claim of Molar's lists, where all places but the last ones are certain (μ = 1) and these are drawn:

* Where a policy leaves out what was certain, nobody knows what comes in its stead. Such requests are left out, which is
  allowed, as no draw decides which they are; the estimates hold for the other requests, whose share is told.
* With one place that is drawn, lists differ in that place only and nothing need be a sum.
* Several places are drawn without putting back, and so not independently; how likely two items are together is not in
  the log. Such requests are left out as well.

Source:
    Swaminathan, Krishnamurthy, Agarwal, Dudík, Langford, Jose and Zitouni 2017, Off-policy evaluation for slate
    recommendation, arXiv:1605.04812 (pi, wpi; G is their formula for product policies). Vlassis, Chandrashekar,
    Amat Gil and Kallus 2021, Control variates for slate off-policy evaluation, arXiv:2106.07914.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from molar_eval.kpi.impressions import Impressions
from molar_eval.kpi.off_policy import FEW_ROWS, FEW_USERS, FOLDS, MEAN_LEVEL, effective_rows, importance_weights
from molar_eval.statistics import UserRatios, sums_by
from molar_retrieval.rng import generator

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
SlateEstimator = Literal["logged", "pi", "pi_cv", "pi_gain"]
_NEAR = 0.01  # departure of a mean from 1 that rounded propensities may cause


@dataclass(frozen=True)
class SlateValue:
    """An estimate of the reward per request; ``low`` and ``high`` are None where nothing varies among the users."""

    estimator: SlateEstimator
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SlateEvaluation:
    """What a log says about the lists of a new policy.

    Attributes:
        values: The estimates; none where no request can be used.
        requests: For so many requests they hold.
        share: Which share of the log's requests that is.
        effective: Kish's effective number of requests, by the weights G.
        warnings: Sentences that have to stand beside the numbers.
    """

    values: tuple[SlateValue, ...]
    requests: int
    share: float
    effective: float
    warnings: tuple[str, ...]

    def value(self, estimator: SlateEstimator) -> SlateValue | None:
        """One estimate, None where it cannot be made."""
        return next((value for value in self.values if value.estimator == estimator), None)


def answerable(log: Impressions, target_probabilities: npt.NDArray[np.floating]) -> Mask:
    """Of which requests lists like Molar's can be told, shape (C,): see the module.

    Those in which the policy keeps all that was certain to be shown, and in which one place at most was drawn.
    """
    certain = log.propensity == 1
    left_out = np.bincount(log.context[certain & (target_probabilities < 1)], minlength=len(log.contexts))
    drawn = np.bincount(log.context[~certain], minlength=len(log.contexts))
    found: Mask = (left_out == 0) & (drawn <= 1)
    return found


def evaluate_slates(
    log: Impressions,
    target_probabilities: npt.NDArray[np.floating],
    within: Mask | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> SlateEvaluation:
    """Estimate what the lists of a new policy would have earned per request; read the module's assumptions first.

    Args:
        log: Impressions whose places were drawn independently; the reward of a request is the sum over its rows.
        target_probabilities: With what probability the new policy shows each row's item there, shape (n,).
        within: The requests to be used, shape (C,), chosen by nothing that a draw or a reward decides; None: all.
        level: Nominal coverage of the intervals.
        resamples: Bootstrap samples; whole users are drawn.
        seed: Of the bootstrap and of the folds.

    Raises:
        DataError: If the log is empty, or the probabilities do not fit it or are none.
    """
    ratios = importance_weights(log, np.asarray(target_probabilities, np.float64))
    used = np.ones(len(log.contexts), bool) if within is None else within
    share = float(used.mean())
    if not used.any():
        return SlateEvaluation((), 0, 0.0, 0.0, ("no request can be told of: the log says nothing about these lists",))
    reward = sums_by(log.context, log.reward, len(used))[used]
    departures = _departures(log, ratios)[used]
    weight = 1 + departures.sum(axis=1)
    sample = _Requests(log.user[log.first][used], len(log.users), level, resamples, seed)
    earned = reward * weight
    controlled, gained = (top - sample.controlled(top, departures) for top in (earned, earned - reward))
    tops: dict[SlateEstimator, Floats] = {
        "logged": reward, "pi": earned, "pi_cv": controlled, "pi_gain": gained
    }  # fmt: skip
    values = tuple(sample.value(name, top) for name, top in tops.items())
    effective = effective_rows(weight)
    warnings = _warnings(sample, departures, reward * (weight != 0), share, effective)
    return SlateEvaluation(values, len(reward), share, effective, warnings)


def _departures(log: Impressions, ratios: Floats) -> Floats:
    """Yₖ − 1 of each place of each request, 0 where a list is shorter, shape (C, K); places as the rows stand."""
    order = np.argsort(log.context, kind="stable")
    counts = np.bincount(log.context)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.zeros((len(counts), int(counts.max())))
    found[log.context[order], place] = ratios[order] - 1
    return found


class _Requests(UserRatios):
    """Means over requests, with intervals from whole users; arrays have a first axis of requests."""

    def __init__(self, user: npt.NDArray[np.integer], users: int, level: float, resamples: int, seed: int) -> None:
        super().__init__(user, users, resamples=resamples, seed=seed)
        self.user, self._level = user, level
        self._fold = generator(seed, "kpi", "folds").permutation(users)[user] % FOLDS

    def value(self, name: SlateEstimator, values: Floats) -> SlateValue:
        found = self.mean(values, self._level)
        if found.high - found.low <= 1e-12 * max(1.0, abs(found.mean)):
            return SlateValue(name, found.mean, None, None)
        return SlateValue(name, found.mean, found.low, found.high)

    def controlled(self, top: Floats, departures: Floats) -> Floats:
        """Σₖ βₖ (Yₖ − 1), with β by least squares, of which a constant is no part, on the other folds' requests."""
        found = np.zeros(len(top))
        for fold in range(FOLDS):
            own = self._fold == fold
            if own.any() and not own.all():
                others = np.column_stack([np.ones((~own).sum()), departures[~own]])
                found[own] = departures[own] @ np.linalg.lstsq(others, top[~own], rcond=None)[0][1:]
        return found


def _warnings(
    sample: _Requests, departures: Floats, counted: Floats, share: float, effective: float
) -> tuple[str, ...]:
    level = 1 - (1 - MEAN_LEVEL) / departures.shape[1]
    means = [sample.mean(1 + column, level) for column in departures.T]
    missing = [n for n, m in enumerate(means, 1) if m.high < 1 and m.mean < 1 - _NEAR]
    wrong = [n for n, m in enumerate(means, 1) if m.low > 1 and m.mean > 1 + _NEAR]
    users = len(np.unique(sample.user[counted != 0]))
    told = [
        (
            share < 1,
            f"the estimates hold for {share:.1%} of the requests: in the others the policy leaves out what was certain "
            "to be shown, or several places were drawn together, and the log cannot tell what would have come of it",
        ),
        (
            bool(missing),
            f"place {', '.join(map(str, missing))}: what the new policy shows there was never shown in such contexts "
            "for a part, or propensities are too high; all estimates are wrong by what that part earns",
        ),
        (bool(wrong), f"place {', '.join(map(str, wrong))}: the propensities are too low, or belong to other rows"),
        (
            effective < FEW_ROWS,
            f"effective sample size {effective:.1f} of {len(counted)} requests: the estimates hang on a few, and their "
            f"intervals are too narrow; at least {FEW_ROWS} are needed",
        ),
        (
            users < FEW_USERS,
            f"{users} users with a reward under the new policy: too few for an interval, which takes {FEW_USERS}",
        ),
    ]
    return tuple(text for holds, text in told if holds)
