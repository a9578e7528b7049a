"""Two arms asked for the same requests, of which people saw one alone: what differs, how slow it is, what it costs.

Answers are slow in bursts, so that consecutive requests are drawn together for the interval of the slowest ones
(bootstrap of blocks, Künsch 1989, doi:10.1214/aos/1176347265).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean

import numpy as np
import numpy.typing as npt

from molar_eval.experiments.results import ShadowComparison
from molar_retrieval.experiments.records import ShadowRow
from molar_retrieval.rng import generator

SLOW = 0.99
"""The quantile of times that arms are compared by."""
PRICES = (0.1, 0.5, 0.9)
"""Quantiles of prices that are told."""
BLOCKS = 100
"""Into so many parts requests are cut in the order of time."""
_RESAMPLES = 300
_LEAST = 1e-3  # milliseconds; no clock tells less
_SIDE = 0.025  # what lies beyond each end of an interval
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ShadowPrices:
    """Mean prices of the lists of an arm: their mean, and their quantiles by :data:`PRICES`."""

    mean: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class ComparedShadows(ShadowComparison):
    """What both arms made of the same requests, in full.

    Attributes:
        identical: Share of requests for which both had the same items.
        p99: 99th percentile of each arm's time, control first, in milliseconds.
        p99_low: Lower end of the interval of ``p99_ratio``, with a confidence of 95 %.
        p99_high: Its upper end; infinite where nothing was answered by both.
        prices: Of each arm, control first; None where no list has prices in both.
    """

    identical: float
    p99: tuple[float, float]
    p99_low: float
    p99_high: float
    prices: tuple[ShadowPrices, ShadowPrices] | None


def compared_shadows(rows: Sequence[ShadowRow]) -> ComparedShadows | None:
    """Compare the arms by requests in the order of time; None where there are none.

    ``requests`` are those that both arms answered, of which all but ``errors`` is told; where there are fewer than a
    thousand the 99th percentile is hardly known, as its interval says.
    """
    if not rows:
        return None
    both = [row for row in rows if not (row.control_error or row.treatment_error)]
    times = _SlowestTimes([row.control_ms for row in both], [row.treatment_ms for row in both])
    control, treatment = times.of(np.ones(len(both))) if both else (0.0, 0.0)
    low, high = times.interval() if both else (0.0, inf)
    prices = _prices(both)
    return ComparedShadows(
        requests=len(both),
        overlap=fmean([row.overlap for row in both]) if both else 0.0,
        p99_ratio=treatment / control if both else 1.0,
        errors=sum(row.treatment_error and not row.control_error for row in rows),
        empty=sum(row.treatment_empty - row.control_empty for row in both),
        price=None if prices is None or prices[0].mean <= 0 else prices[1].mean / prices[0].mean,
        identical=fmean([row.overlap >= 1 for row in both]) if both else 0.0,
        p99=(control, treatment),
        p99_low=low,
        p99_high=high,
        prices=prices,
    )


class _SlowestTimes:
    """The quantile of the times of both arms, in milliseconds, for requests that count as often as weights say."""

    def __init__(self, control: Sequence[float], treatment: Sequence[float]) -> None:
        self._n = len(control)
        self._arms: list[tuple[Floats, npt.NDArray[np.intp]]] = []
        for times in (np.maximum(control, _LEAST), np.maximum(treatment, _LEAST)):
            order = np.argsort(times, kind="stable")
            self._arms.append((times[order], order))

    def of(self, weights: Floats) -> tuple[float, float]:
        control, treatment = (self._quantile(times, weights[order]) for times, order in self._arms)
        return control, treatment

    def interval(self) -> tuple[float, float]:
        """That of the ratio, by blocks of consecutive requests that are drawn with replacement."""
        blocks = min(BLOCKS, self._n)
        block = np.arange(self._n) * blocks // self._n
        random = generator(0, "shadow")
        ratios = []
        for _ in range(_RESAMPLES):
            drawn = np.bincount(random.integers(0, blocks, blocks), minlength=blocks)
            control, treatment = self.of(drawn[block].astype(np.float64))
            ratios.append(treatment / control)
        low, high = np.quantile(ratios, [_SIDE, 1 - _SIDE])
        return float(low), float(high)

    def _quantile(self, times: Floats, weights: Floats) -> float:
        reached = np.cumsum(weights)
        return float(times[np.searchsorted(reached, SLOW * reached[-1])])


def _prices(both: Sequence[ShadowRow]) -> tuple[ShadowPrices, ShadowPrices] | None:
    told = [
        (row.control_price, row.treatment_price)
        for row in both
        if row.control_price is not None and row.treatment_price is not None
    ]
    if not told:
        return None
    control, treatment = (
        ShadowPrices(float(prices.mean()), tuple(np.quantile(prices, PRICES).tolist())) for prices in np.array(told).T
    )
    return control, treatment
