"""Importance weights of a log under another policy, and what they say about whether the log can answer at all."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molar_eval.kpi.impressions import Impressions
from molar_eval.statistics.bootstrap import ConfidenceInterval
from molar_retrieval.errors import DataError, SettingsError

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
