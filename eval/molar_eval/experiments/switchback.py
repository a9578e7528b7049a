"""A switchback: all people have one arm for a block of time, and the other one at the same time of the other week.

Blocks are compared in pairs that share their place in the week (the assignment is
:func:`molar_retrieval.experiments.assignment.arm_of_block`), so that weekdays and hours fall out. Blocks of one day go
together: the variance is that between the weekdays of pairs of weeks, clustered in the way of Liang and Zeger 1986,
doi:10.1093/biomet/73.1.13. Large days, and those in which one arm has more of the blocks, tell more of their own than
others; the t distribution is that of as many equal days as would vary alike (Satterthwaite 1946, doi:10.2307/3002019),
what a day has of its own being taken for as large as what its blocks have.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from molar_eval.statistics import sums_by

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
WEEK_HOURS, _DAY_HOURS = 168, 24


@dataclass(frozen=True)
class BlocksCompared:
    """What blocks of both arms differ by.

    Attributes:
        control: The total by the size of control's blocks.
        treatment: That of the treated blocks.
        error: The standard error of their difference; None: there are fewer than two days of pairs.
        pairs: Pairs of blocks that were compared.
        days: Days of pairs of weeks in which these lie: what counts as independent.
        left_out: Blocks without their counterpart, yet or at all.
        freedom: Degrees of freedom of the t distribution, at least 1 where there is an error.
    """

    control: float
    treatment: float
    error: float | None
    pairs: int
    days: int
    left_out: int
    freedom: float = 0.0

    @property
    def difference(self) -> float:
        """The treated blocks minus control."""
        return self.treatment - self.control

    @property
    def p(self) -> float | None:
        """Of a difference at least as large by chance; None where that is not known."""
        if not self.error:
            return None
        return float(2 * stdtr(self.freedom, -abs(self.difference) / self.error))

    def interval(self, alpha: float = 0.05) -> tuple[float, float] | None:
        """In which the difference lies with a probability of 1 − alpha; None where that is not known."""
        if self.error is None:
            return None
        away = -float(stdtrit(self.freedom, alpha / 2)) * self.error
        return self.difference - away, self.difference + away


def compare_blocks(
    block: npt.ArrayLike, treated: npt.ArrayLike, total: npt.ArrayLike, size: npt.ArrayLike, block_hours: int
) -> BlocksCompared:
    """Totals by sizes, as revenue per visitor, of treated blocks and others, by pairs of both.

    Args:
        block: The number of each block, counted from 1970 on in UTC, shape (n,); each once.
        treated: Whether it had the treated arm, shape (n,).
        total: What there was in it, shape (n,).
        size: By what that is divided: people, lists, or 1 for a total per block, shape (n,).
        block_hours: How long a block is: a week has a whole number of them.

    Raises:
        ValueError: If a week has no whole number of blocks, or a block is there twice.
    """
    if WEEK_HOURS % block_hours:
        raise ValueError(f"a week has no whole number of blocks of {block_hours} hours")
    numbers, arms = np.asarray(block, np.int64), np.asarray(treated, np.bool_)
    if len(np.unique(numbers)) < len(numbers):
        raise ValueError("a block is there twice: add its parts up first")
    week, place = np.divmod(numbers, WEEK_HOURS // block_hours)
    pair = week // 2 * (WEEK_HOURS // block_hours) + place
    whole = np.intersect1d(pair[arms], pair[~arms])
    sums = [
        [_of(pair[side], np.asarray(values, np.float64)[side], whole) for values in (total, size)]
        for side in (~arms, arms)
    ]
    if not all(sizes.sum() for _, sizes in sums):
        return BlocksCompared(0.0, 0.0, None, 0, 0, len(numbers))
    means = [float(totals.sum() / sizes.sum()) for totals, sizes in sums]
    control, own = (
        (totals - mean * sizes) / sizes.sum() for mean, (totals, sizes) in zip(means, sums, strict=True)
    )  # what each block adds to the error of its arm
    days, at = np.unique(whole * block_hours // _DAY_HOURS, return_inverse=True)
    added = sums_by(at, own - control, len(days))
    error = sqrt(len(days) / (len(days) - 1) * float(added @ added)) if len(days) > 1 else None
    weight = sum(sizes / sizes.sum() for _, sizes in sums)
    first = np.isin(whole, pair[arms & (week % 2 == 0)])
    freedom = _freedom(at, np.where(first, weight, -weight), len(days))
    return BlocksCompared(means[0], means[1], error, len(whole), len(days), len(numbers) - 2 * len(whole), freedom)


def _freedom(day: Ints, weight: Floats, days: int) -> float:
    """Degrees of freedom by the weights of pairs, negative where the second week is treated.

    Of days with one pair each and of the same size it is the number of days less one.
    """
    spread = sums_by(day, weight**2, days) + sums_by(day, weight, days) ** 2
    return max(float(spread.sum() ** 2 / (spread @ spread)) - 1, 1.0)


def _of(pair: Ints, values: Floats, whole: Ints) -> Floats:
    """The values of some pairs, in their order."""
    order = np.argsort(pair)
    found: Floats = values[order[np.searchsorted(pair, whole, sorter=order)]]
    return found
