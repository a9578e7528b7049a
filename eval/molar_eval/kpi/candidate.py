"""Whether another way to make lists is to be refused before anybody sees it, by what a log tells of it.

In a context a *candidate* shows the item a with probability πₐ where the *control* does with κₐ. What it would gain per
place is the mean of Σ (πₐ − κₐ) φₐ, with φₐ what the item earns there. The log knows φₐ of what could be shown. Of the
rest it only knows bounds: nothing earns less than 0 or more than a *ceiling*, of clicks 1. So there is a least gain,
where whatever only the candidate would show and the log could not earns 0, and whatever only the control would show
earns the ceiling; and a most, the other way round. Both are means of weighted rewards as IPS is, estimated without bias
and with an interval of their own; the gain lies between the lower end of the one and the upper end of the other (Manski
1990; Imbens and Manski 2004, doi:10.1111/j.1468-0262.2004.00555.x; of logs without support Sachdeva, Su and Joachims
2020, arXiv:2006.09438).

=============  ======================================================================================================
refuse          even the most that it can gain lies below −harm: it does harm, as surely as the interval holds
pass            even the least lies above −harm: it does none, as surely
cannot_tell     all else, with the reason: mostly that the log never showed what the candidate would show
=============  ======================================================================================================

The assumptions are those of :mod:`molar_eval.kpi.off_policy`, support excepted.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from molar_eval.kpi.impressions import Impressions
from molar_eval.kpi.target_policy import TargetPolicy
from molar_eval.kpi.weights import FEW_ROWS, FEW_USERS, MEAN_LEVEL, effective_rows, importance_weights
from molar_eval.statistics.bootstrap import UserRatios
from molar_retrieval.errors import DataError, SettingsError

Floats = npt.NDArray[np.float64]
Outcome = Literal["refuse", "pass", "cannot_tell"]
_NEAR = 0.01  # departure of a mean weight from 1 that rounded propensities may cause


@dataclass(frozen=True)
class CandidateVerdict:
    """What a log says of a candidate.

    Attributes:
        outcome: Whether to refuse it.
        why: In sentences.
        requests: Requests of the log that were looked at.
        differing: The share of them in which candidate and control would not show the same.
        logged: What was shown earned so much per place.
        low: Lower end of the interval of the least that the candidate gains per place against the control; None: it
            cannot be told, or there is nothing to tell.
        high: Upper end of that of the most that it gains, likewise.
        missing: Of what the candidate shows more often than the control, the share that the log could not show.
        effective: Kish's effective number of rows in which the two differ.
    """

    outcome: Outcome
    why: tuple[str, ...]
    requests: int = 0
    differing: float = 0.0
    logged: float = 0.0
    low: float | None = None
    high: float | None = None
    missing: float = 0.0
    effective: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def candidate_verdict(
    log: Impressions,
    items: npt.NDArray[np.integer],
    candidate: TargetPolicy,
    control: TargetPolicy,
    *,
    harm: float = 0.0,
    ceiling: float | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> CandidateVerdict:
    """Whether a candidate is to be refused; see the module.

    Args:
        log: Impressions of a stochastic logging policy; rewards are not negative.
        items: The item row of each shown item, as in the policies, shape (n,).
        candidate: What would be shown, in each context of the log.
        control: And without it; it need not be what was logged.
        harm: The share of what was earned that may be lost without harm.
        ceiling: What is at most earned by what the log could not show, on average; None: the largest reward of the
            log, of clicks 1, which assumes nothing. With less, more can be told, as far as that is right.
        level: Nominal coverage of the intervals.
        resamples: Bootstrap samples; whole users are drawn.
        seed: Of the bootstrap.

    Raises:
        DataError: If the log is empty or has negative rewards.
        SettingsError: If ``harm`` is less than 0.
    """
    if not harm >= 0:
        raise SettingsError(f"a harm of {harm}", "give a share of 0 or more")
    if (log.reward < 0).any():
        raise DataError("a reward is negative: what could not be shown has no lower bound", "log 0 or more")
    compared = _Compared.of(log, items, candidate, control)
    effective = effective_rows(compared.more + compared.fewer)
    found = CandidateVerdict(
        "cannot_tell", (), len(log.contexts), compared.differing, float(log.reward.mean()), missing=compared.missing,
        effective=effective,
    )  # fmt: skip
    if not compared.differing:
        return replace(found, outcome="pass", why=("both show the same in all requests",))
    ratios = UserRatios(log.user, len(log.users), resamples=resamples, seed=seed)
    if lacking := _lacking(log, compared, ratios, effective):
        return replace(found, why=lacking)
    least, most = compared.bounds(log.reward, float(log.reward.max()) if ceiling is None else ceiling)
    low, high = ratios.mean(least, level).low, ratios.mean(most, level).high
    found, bearable = replace(found, low=low, high=high), harm * log.reward
    told = f"it would gain {low:+.4g} to {high:+.4g} per place, where {found.logged:.4g} are earned"
    if ratios.mean(most + bearable, level).high < 0:
        return replace(found, outcome="refuse", why=(f"{told}: a loss of more than {harm:.0%}",))
    if ratios.mean(least + bearable, level).low >= 0:
        return replace(found, outcome="pass", why=(f"{told}: no loss of {harm:.0%}",))
    return replace(found, why=(told, _open(compared, ratios)))


def _open(compared: "_Compared", ratios: UserRatios) -> str:
    """Why it cannot be told which side of the harm that may be borne the gain is on."""
    if compared.all_more.any() and ratios.ratio(compared.more, compared.all_more, MEAN_LEVEL).high < 1 - _NEAR:
        return f"{compared.missing:.0%} of what it would show instead was never shown in such contexts"
    return "the log is too small to tell"


@dataclass(frozen=True, eq=False)
class _Compared:
    """How two policies differ, in the rows of a log and on the whole.

    ``more`` and ``fewer`` are by how much likelier the candidate and the control show the item of a row, divided by its
    propensity, shape (n,); ``all_more`` and ``all_fewer`` the sums of that over all items of a context, with its first
    row, likewise of shape (n,), so that without missing support the means are those of ``more`` and ``fewer``.
    """

    more: Floats
    fewer: Floats
    all_more: Floats
    all_fewer: Floats
    weights: tuple[Floats, Floats]
    totals: tuple[Floats, Floats]
    differing: float
    missing: float

    @classmethod
    def of(
        cls, log: Impressions, items: npt.NDArray[np.integer], candidate: TargetPolicy, control: TargetPolicy
    ) -> "_Compared":
        one, other = (importance_weights(log, np.minimum(p.of(log.context, items), 1.0)) for p in (candidate, control))
        sums = _excess(candidate, control), _excess(control, candidate)
        totals = candidate.probabilities.sum(axis=1), control.probabilities.sum(axis=1)
        at_first = [np.zeros(len(log)) for _ in range(4)]
        for rows, values in zip(at_first, (*sums, *totals), strict=True):
            rows[log.first] = values
        more, fewer = np.maximum(one - other, 0), np.maximum(other - one, 0)
        new = float(sums[0].sum())
        missing = max(0.0, 1 - float(more.sum()) / new) if new else 0.0
        differing = float(np.mean((sums[0] > 0) | (sums[1] > 0)))
        return cls(more, fewer, at_first[0], at_first[1], (one, other), (at_first[2], at_first[3]), differing, missing)

    def bounds(self, reward: Floats, ceiling: float) -> tuple[Floats, Floats]:
        """What each row adds to the least and to the most that the candidate gains, shapes (n,)."""
        known = (self.more - self.fewer) * reward
        least = known - ceiling * (self.all_fewer - self.fewer)
        return least, known + ceiling * (self.all_more - self.more)


def _excess(one: TargetPolicy, other: TargetPolicy) -> Floats:
    """By how much likelier than the other policy one shows what it shows likelier, summed by context, shape (C,)."""
    contexts, found = np.arange(len(one.items)), np.zeros(len(one.items))
    for items, probabilities in zip(one.items.T, one.probabilities.T, strict=True):
        found += np.where(items >= 0, np.maximum(probabilities - other.of(contexts, items), 0), 0)
    return found


def _lacking(log: Impressions, compared: _Compared, ratios: UserRatios, effective: float) -> tuple[str, ...]:
    """Why the log says nothing at all."""
    found = []
    for name, weights, totals in zip(("candidate", "control"), compared.weights, compared.totals, strict=True):
        if totals.any() and (mean := ratios.ratio(weights, totals, MEAN_LEVEL)).low > 1 + _NEAR:
            found.append(f"the mean weight of the {name} is {mean.mean:.3f} instead of 1: the propensities are wrong")
    earning = len(np.unique(log.user[(compared.more + compared.fewer > 0) & (log.reward > 0)]))
    if effective < FEW_ROWS:
        found.append(f"effective sample size {effective:.1f} where the two differ: it takes {FEW_ROWS}")
    if earning < FEW_USERS:
        found.append(f"{earning} users with a reward where the two differ: it takes {FEW_USERS}")
    return tuple(found)
