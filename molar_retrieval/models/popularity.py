"""Trend: how much in demand an item is at a moment, from the days before it."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.k_anonymity import had_by_few

HALF_LIVES = (3.0, 7.0, 20.0, 60.0, 180.0, np.inf)
"""Half-lives worth trying, in days; the last one is plain popularity up to the moment."""
DAY = 86_400
_SPACING = 1 << 21
"""Interactions between two days of which the demand is kept, so that none is counted from the first day on."""
_FLOOR = 0.05
"""Stands for "nobody yet" under the logarithm."""


class _Demand(NamedTuple):
    """On a day: how many of the interactions come before it, and what they amount to, shape (n_items,)."""

    day: int
    before: int
    amounts: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Popularity:
    """Popularity that halves with age: ``Σ 2 ** (-(d - d') / half_life)`` over an item's interactions on days d' < d.

    d is the day (in UTC) of the moment that is asked about. Nothing from that day itself counts, so the same numbers
    can be had by anyone who counts once a night. In a log without times, whose interactions all bear the same one,
    everything always counts, once.

    Interactions are on ascending ``days`` since 1970; the half-life is in days, infinite where age does not count.
    Each counts as much as its kind is strong, ``amount``; None: 1.
    """

    days: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    n_items: int
    half_life: float
    timeless: bool
    amount: npt.NDArray[np.float32] | None = None

    @classmethod
    def fit(cls, log: Interactions, half_life_days: float, least: int = 1) -> Self:
        """Sort the interactions by day; items that fewer than ``least`` people had are as if nobody had."""
        if least > 1:
            log = log.select(~had_by_few(log, least)[log.item])
        days = log.timestamp // DAY
        order = np.argsort(days, kind="stable")
        timeless = not len(log) or bool(log.timestamp.min() == log.timestamp.max())
        amount = None if log.strength is None else log.strength[order]
        return cls(days[order], log.item[order], log.n_items, half_life_days, timeless, amount)

    @classmethod
    def of_counts(cls, counts: npt.NDArray[np.float32]) -> Self:
        """Popularity that is known as such, without days: how many took each item, shape (n_items,)."""
        items = np.flatnonzero(counts).astype(np.int32)
        return cls(np.zeros(len(items), np.int64), items, len(counts), np.inf, True, counts[items])

    def total(self) -> npt.NDArray[np.float32]:
        """What all interactions count, without age, by item, shape (n_items,)."""
        return np.bincount(self.items, self.amount, minlength=self.n_items).astype(np.float32)

    def log_scores(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Log of popularity plus 0.05, shape (T, n_items), at ``times`` in seconds since 1970 (UTC), shape (T,)."""
        asked, which = np.unique(np.minimum(times // DAY, self._last), return_inverse=True)
        if self.timeless:
            counts = np.bincount(self.items, self.amount, minlength=self.n_items)
            return np.repeat(_logarithm(counts)[None], len(times), axis=0)
        rows = np.empty((len(asked), self.n_items), np.float32)
        first = int(asked[0]) if len(asked) else 0
        demand = next((one for one in reversed(self._kept) if one.day <= first), self._none(first))
        for number, day in enumerate(asked.tolist()):
            demand = self._later(demand, day)
            rows[number] = _logarithm(demand.amounts)
        return rows[which]

    @cached_property
    def _kept(self) -> list[_Demand]:
        """The demand on some days, the first ones first."""
        kept: list[_Demand] = []
        for day in np.unique(self.days[_SPACING::_SPACING]).tolist():
            kept.append(self._later(kept[-1] if kept else self._none(day), day))
        return kept

    def _none(self, day: int) -> _Demand:
        return _Demand(day, 0, np.zeros(self.n_items))

    def _later(self, demand: _Demand, day: int) -> _Demand:
        """From the demand on a day that on a later one, or the same."""
        before = int(np.searchsorted(self.days, day))
        new = slice(demand.before, before)
        fresh = np.exp2(-(day - self.days[new]) / self.half_life)
        fresh = fresh if self.amount is None else fresh * self.amount[new]
        former = demand.amounts * np.exp2(-(day - demand.day) / self.half_life)
        return _Demand(day, before, former + np.bincount(self.items[new], fresh, minlength=self.n_items))

    def scores(self, log: Interactions) -> npt.NDArray[np.float32]:
        """The same when each history is asked about, or now where the log does not say, shape (n_users, n_items)."""
        return np.tile(self.now(), (log.n_users, 1)) if log.asked_at is None else self.log_scores(log.asked_at)

    def now(self) -> npt.NDArray[np.float32]:
        """The same on the day after the log's last interaction, when all of it counts, shape (n_items,)."""
        row: npt.NDArray[np.float32] = self.log_scores(np.array([self._last * DAY], np.int64))[0]
        return row

    @property
    def _last(self) -> int:
        """The day after the log's last interaction."""
        return int(self.days[-1]) + 1 if len(self.days) else 0


def _logarithm(demand: npt.NDArray[np.number]) -> npt.NDArray[np.float32]:
    result: npt.NDArray[np.float32] = np.log(demand + _FLOOR).astype(np.float32)
    return result
