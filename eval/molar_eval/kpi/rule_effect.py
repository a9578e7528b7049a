"""What a rule has done since it began: how much more its items were taken, against all others over the same days.

Of as many whole weeks before its first day as after it, the ratio of what was taken of the rule's items to what was
taken of all others is compared: a difference in differences of logarithms (Card and Krueger 1994). What moves all items
alike, a season or a weekday, is in both and falls out. What came to the rule's items alone on the same day, such as a
price or a campaign, does not: it cannot be told from the rule.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy

Counts = npt.NDArray[np.integer]
WEEKS = 4
"""Weeks on either side at most."""
FEWEST = 10
"""Times that items must have been taken on either side."""
_WEEK = 7
_LEVEL = 0.95
Lacking = Literal["days", "taken", "others"]


@dataclass(frozen=True)
class RuleEffect:
    """What is known of a rule's effect.

    Attributes:
        days: On either side.
        before: How often its items were taken in the days before.
        since: And in those since.
        change: By which share more that is than by how all other items went; None: it cannot be told.
        interval: In which that lies with a confidence of 95 %; None likewise.
        lacking: What it takes to tell: whole weeks since it began, events of its items, or of others; None: nothing.
    """

    days: int
    before: int
    since: int
    change: float | None = None
    interval: tuple[float, float] | None = None
    lacking: Lacking | None = None

    @property
    def certain(self) -> bool:
        """Whether it is known to be more, or to be less."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def whole_weeks(days: int) -> int:
    """How many of so many days since its first one are compared, and as many before it."""
    return _WEEK * min(WEEKS, days // _WEEK)


def effect_of(own: Counts, others: Counts) -> RuleEffect:
    """The effect by what was taken on each day, shape (2 n,), before and since: of the rule's items and of others."""
    days = len(own) // 2
    sides = [(own[part].astype(float), others[part].astype(float)) for part in (slice(days), slice(days, None))]
    before, since = (int(side[0].sum()) for side in sides)
    if days < _WEEK:
        return RuleEffect(days, before, since, lacking="days")
    if min(before, since) < FEWEST:
        return RuleEffect(days, before, since, lacking="taken")
    if min(side[1].sum() for side in sides) < FEWEST:
        return RuleEffect(days, before, since, lacking="others")
    ratios = [np.log(mine.sum() / rest.sum()) for mine, rest in sides]
    change = float(ratios[1] - ratios[0])
    error = float(np.sqrt(sum(_variance(*side) for side in sides)))
    reach = error * float(scipy.special.stdtrit(2 * days - 2, 0.5 + _LEVEL / 2))
    interval = float(np.expm1(change - reach)), float(np.expm1(change + reach))
    return RuleEffect(days, before, since, float(np.expm1(change)), interval)


def _variance(own: npt.NDArray[Any], others: npt.NDArray[Any]) -> float:
    """Of the logarithm of the ratio of two sums over days, by what each day adds; never less than counts have.

    Days that go on as the one before tell less: by their autocorrelation of lag one.
    """
    days = len(own)
    added = own / own.sum() - others / others.sum()
    spread = float((added**2).sum())
    after_another = float((added[1:] * added[:-1]).sum()) / spread if spread else 0.0
    correlation = min(max(after_another, 0.0), 0.9)
    by_days = spread * days / (days - 1) * (1 + correlation) / (1 - correlation)
    return max(by_days, 1 / float(own.sum()) + 1 / float(others.sum()))
