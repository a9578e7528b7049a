"""Looking at an experiment more than once: bounds that spend the error by and by, and what that costs in people.

Standardised differences at looks that are equally spaced are a Brownian motion; the chance that it has not left its
bounds so far is integrated look by look (Armitage, McPherson and Rowe 1969).
"""

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import roots_legendre
from scipy.stats import norm

_NODES = 240
_FARTHEST = 12.0  # standard deviations: nothing lies beyond
Floats = npt.NDArray[np.float64]


@lru_cache(maxsize=1)
def _quadrature() -> tuple[Floats, Floats]:
    nodes, weights = roots_legendre(_NODES)
    return nodes, weights


class _Motion:
    """What has not crossed a bound so far: its density at nodes, in units of the whole experiment."""

    def __init__(self, looks: int, drift: float = 0.0) -> None:
        self._looks, self._drift, self._look = looks, drift, 0
        self._at, self._mass = np.zeros(1), np.ones(1)

    def beyond(self, bound: float) -> tuple[float, float]:
        """The chance of lying above the bound of the next look, and below its negative, for the first time."""
        step, edge = sqrt(1 / self._looks), bound * sqrt((self._look + 1) / self._looks)
        middle = self._at + self._drift / self._looks
        above = float(self._mass @ norm.sf((edge - middle) / step))
        return above, float(self._mass @ norm.cdf((-edge - middle) / step))

    def go_on(self, bound: float) -> None:
        """Pass the next look within its bound."""
        step, edge = sqrt(1 / self._looks), bound * sqrt((self._look + 1) / self._looks)
        nodes, weights = _quadrature()
        at = nodes * edge
        moves = norm.pdf((at[:, None] - self._at - self._drift / self._looks) / step) / step
        self._at, self._mass, self._look = at, (moves @ self._mass) * weights * edge, self._look + 1


def crossing(bounds: Sequence[float], drift: float = 0.0) -> float:
    """The chance that a standardised difference leaves its two-sided bounds at one of the looks.

    ``drift`` is the expected standardised difference at the last look; 0: the chance of a false alarm.
    """
    motion, total = _Motion(len(bounds), drift), 0.0
    for bound in bounds:
        total += sum(motion.beyond(bound))
        motion.go_on(bound)
    return total


def spent(share: float, alpha: float) -> float:
    """How much of ``alpha`` one side may have spent when a share of the experiment is over, early looks little.

    Source: Lan and DeMets 1983, doi:10.1093/biomet/70.3.659, the function that comes near O'Brien and Fleming 1979.
    """
    return float(2 * norm.sf(norm.isf(alpha / 4) / sqrt(share)))


@lru_cache(maxsize=64)
def boundaries(looks: int, alpha: float = 0.05) -> tuple[float, ...]:
    """Two-sided bounds of the standardised difference at equally spaced looks, by :func:`spent`."""
    motion, before = _Motion(looks), 0.0
    found: list[float] = []
    for look in range(1, looks + 1):
        now = spent(look / looks, alpha)
        bound = _bound(motion, now - before)
        found.append(bound)
        motion.go_on(bound)
        before = now
    return tuple(found)


def _bound(motion: _Motion, chance: float) -> float:
    """The bound of the next look which one side crosses with a chance."""
    if motion.beyond(_FARTHEST)[0] >= chance:  # so little may be spent that no bound is far enough
        return _FARTHEST
    return float(brentq(lambda bound: motion.beyond(bound)[0] - chance, 0.0, _FARTHEST, xtol=1e-10))


@lru_cache(maxsize=64)
def inflation(looks: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """By which factor more people an experiment needs that is looked at so often, against one look at its end.

    Source: Jennison and Turnbull 2000, Group Sequential Methods, section 2.4; there it is R.
    """
    if looks == 1:
        return 1.0
    return inflation_of(boundaries(looks, alpha), alpha, power)


def inflation_of(bounds: Sequence[float], alpha: float, power: float) -> float:
    """The same for given bounds."""
    alone = float(norm.isf(alpha / 2) + norm.ppf(power))
    drift = float(brentq(lambda drift: crossing(bounds, drift) - power, alone * 0.5, alone * 3, xtol=1e-9))
    return (drift / alone) ** 2
