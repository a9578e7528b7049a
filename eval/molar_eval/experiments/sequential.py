"""Looking at an experiment more than once: bounds that spend the error by and by, and what that costs in people.

Standardised differences are a Brownian motion in the information gathered so far, that is one over the square of the
standard error (Jennison and Turnbull 1997, doi:10.1080/01621459.1997.10473655); the chance that it has not left its
bounds so far is integrated look by look (Armitage, McPherson and Rowe 1969). Bounds depend on the looks made so far and
not on those to come, so looks may come whenever they do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import pi, sqrt

import numpy as np
import numpy.typing as npt
import scipy

from molar_eval.statistics.roots import root

LEAST_NEWS = 0.01
"""The share of the planned information that a look must bring; one that brings less is none."""
_NODES = 240
_FARTHEST = 12.0  # standard deviations: nothing lies beyond
_NEAR = 9.0  # from its mean lies all of a motion that matters
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LookTaken:
    """A look at an experiment: when, and how far apart the arms must be then.

    Attributes:
        share: Of the planned information that there was; above 1 where more came than planned.
        spent: How much of alpha was spent, both sides together, this look included.
        bound: What the standardised difference must be beyond, to either side.
    """

    share: float
    spent: float
    bound: float


@lru_cache(maxsize=1)
def _quadrature() -> tuple[Floats, Floats]:
    nodes, weights = scipy.special.roots_legendre(_NODES)
    return nodes, weights


class _Motion:
    """What has not crossed a bound so far: its density at nodes. Time is the share of the planned information."""

    def __init__(self, drift: float = 0.0) -> None:
        self._drift, self._time = drift, 0.0
        self._at, self._mass = np.zeros(1), np.ones(1)

    def beyond(self, bound: float, time: float) -> tuple[float, float]:
        """The chance of lying above the bound of the next look, and below its negative, for the first time."""
        step, edge = sqrt(time - self._time), bound * sqrt(time)
        middle = self._at + self._drift * (time - self._time)
        above = float(self._mass @ scipy.special.ndtr((middle - edge) / step))
        return above, float(self._mass @ scipy.special.ndtr((-edge - middle) / step))

    def go_on(self, bound: float, time: float) -> None:
        """Pass the next look within its bound."""
        step, edge, mean = sqrt(time - self._time), bound * sqrt(time), self._drift * time
        low, high = (float(np.clip(mean + side * _NEAR * sqrt(time), -edge, edge)) for side in (-1, 1))
        nodes, weights = _quadrature()
        at = (low + high) / 2 + nodes * (high - low) / 2
        away = (at[:, None] - self._at - self._drift * (time - self._time)) / step
        moves = np.exp(-(away**2) / 2) / (sqrt(2 * pi) * step)
        self._at, self._mass, self._time = at, (moves @ self._mass) * weights * (high - low) / 2, time


def _equally(looks: int) -> tuple[float, ...]:
    return tuple(look / looks for look in range(1, looks + 1))


def crossing(bounds: Sequence[float], drift: float = 0.0, shares: Sequence[float] | None = None) -> float:
    """The chance that a standardised difference leaves its two-sided bounds at one of the looks.

    ``drift`` is the expected standardised difference where all planned information is there; 0: the chance of a false
    alarm. ``shares`` of that information at each look ascend; None: they are equally spaced up to 1.
    """
    motion, total = _Motion(drift), 0.0
    for bound, share in zip(bounds, shares or _equally(len(bounds)), strict=True):
        total += sum(motion.beyond(bound, share))
        motion.go_on(bound, share)
    return total


def spent(share: float, alpha: float) -> float:
    """How much of ``alpha`` one side may have spent when a share of the experiment is over, early looks little.

    Source: Lan and DeMets 1983, doi:10.1093/biomet/70.3.659, the function that comes near O'Brien and Fleming 1979.
    """
    return float(2 * scipy.special.ndtr(scipy.special.ndtri(alpha / 4) / sqrt(min(share, 1.0))))


def next_look(
    before: Sequence[LookTaken], share: float, alpha: float = 0.05, *, last: bool = False
) -> LookTaken | None:
    """The bound of a look, by the looks that are on record: the same ones always give the same.

    What alpha has not been spent yet is spent as :func:`spent` says; all of it at the last look, also where less
    information came than was planned, and nothing beyond alpha where more came.

    Args:
        before: The looks before, in order.
        share: Of the planned information (:func:`planned_information`) that there is now. What people do adds up from
            look to look, so it is the information of the lift that goes: :attr:`.ArmComparison.lift_information`.
        alpha: The chance of a false alarm over all looks, both sides together.
        last: Whether there will be no other look.

    Returns:
        None where there is too little news since the look before, see :data:`LEAST_NEWS`: nothing is spent then.
    """
    known, used = (before[-1].share, before[-1].spent) if before else (0.0, 0.0)
    if share < known + LEAST_NEWS:
        return None
    motion = _Motion()
    for look in before:
        motion.go_on(look.bound, look.share)
    now = max(used, alpha if last else 2 * spent(share, alpha))
    return LookTaken(share, now, _bound(motion, (now - used) / 2, share))


def planned_information(lift: float, alpha: float = 0.05, power: float = 0.8, looks: int = 1) -> float:
    """The information by which a lift is found with a power in so many looks: one over its squared standard error.

    It goes with the information of the lift; by a difference in another unit, with that of this one.
    """
    return inflation(looks, alpha, power) * (_alone(alpha, power) / lift) ** 2


def conditional_power(statistic: float, share: float, bound: float, drift: float) -> float:
    """The chance that a difference is found at the end, by what is seen now.

    Source: Lan, Simon and Halperin 1982, doi:10.1080/07474948208836014. To stop where it is small costs no alpha.

    Args:
        statistic: The standardised difference now.
        share: Of the planned information that there is now.
        bound: Of the last look, by :func:`next_look` with a share of 1.
        drift: The expected standardised difference at the end: the effect that was planned for times the square root
            of the planned information; or, where what is seen goes on, ``statistic / sqrt(share)``.
    """
    if share >= 1:
        return float(abs(statistic) > bound)
    middle, spread = statistic * sqrt(share) + drift * (1 - share), sqrt(1 - share)
    return float(scipy.special.ndtr((middle - bound) / spread) + scipy.special.ndtr((-bound - middle) / spread))


@lru_cache(maxsize=64)
def boundaries(looks: int, alpha: float = 0.05) -> tuple[float, ...]:
    """Two-sided bounds of the standardised difference at equally spaced looks, by :func:`spent`."""
    return boundaries_at(_equally(looks), alpha)


def boundaries_at(shares: Sequence[float], alpha: float = 0.05) -> tuple[float, ...]:
    """The same at given shares of the planned information, which ascend."""
    motion, before = _Motion(), 0.0
    found: list[float] = []
    for share in shares:
        now = spent(share, alpha)
        bound = _bound(motion, now - before, share)
        found.append(bound)
        motion.go_on(bound, share)
        before = now
    return tuple(found)


def _bound(motion: _Motion, chance: float, share: float) -> float:
    """The bound of the next look which one side crosses with a chance."""
    if motion.beyond(_FARTHEST, share)[0] >= chance:  # so little may be spent that no bound is far enough
        return _FARTHEST
    return root(lambda bound: motion.beyond(bound, share)[0] - chance, 0.0, _FARTHEST, 1e-10)


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
    alone = _alone(alpha, power)
    drift = root(lambda drift: crossing(bounds, drift) - power, alone * 0.5, alone * 3, 1e-9)
    return (drift / alone) ** 2


def _alone(alpha: float, power: float) -> float:
    """The expected standardised difference that one look finds with a power."""
    return float(scipy.special.ndtri(power) - scipy.special.ndtri(alpha / 2))
