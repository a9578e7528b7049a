"""Tests that may be looked at more than once: group-sequential bounds and confidence sequences.

Standardised differences are a Brownian motion in the information gathered so far, that is one over the square of the
standard error (Jennison and Turnbull 1997, doi:10.1080/01621459.1997.10473655); the chance that it has not left its
bounds so far is integrated look by look (Armitage, McPherson and Rowe 1969). Bounds depend on the looks made so far and
not on those to come, so looks may come whenever they do.

Sums over people are compared by the one-sided mixture of normals of Robbins 1970, doi:10.1214/aoms/1177696786, with
variances that are estimated, as in Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Time-uniform central limit
theory and asymptotic confidence sequences, doi:10.1214/24-AOS2408. Time is the variance of the treated arm's sum, not
the number of people, so that what people do later counts as well. Counts of rare events (errors, empty lists) are
compared exactly, by the share of them that falls to each arm (Lindon and Malek 2022, Anytime-valid inference for
multinomial count data, NeurIPS).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, log, pi, sqrt

import numpy as np
import numpy.typing as npt
import scipy

from molar_eval.statistics import root

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


ALPHA = 0.01
"""The chance of a false alarm of one guardrail over all of its looks."""
FEWEST = 25
"""People in each arm below whom nothing is said: variances are not known yet."""
RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""How many times more of a rare event the evidence looks for, each with the same weight."""
_ROUNDS, _STEPS = 40, 3
Numbers = float | Floats


@dataclass(frozen=True, eq=False)
class ArmSums:
    """What the people of an arm did so far; scalars, or arrays of one shape: several looks at once.

    Attributes:
        people: How many they are, also those who did nothing.
        total: The sum of their figures: of zeros and ones, counts, or money, large ones cut.
        squares: The sum of the squares of these.
    """

    people: Numbers
    total: Numbers
    squares: Numbers

    @classmethod
    def of(cls, figures: npt.ArrayLike) -> "ArmSums":
        """Of the figures of people, shape (n,)."""
        each = np.asarray(figures, np.float64)
        return cls(float(len(each)), float(each.sum()), float(each @ each))

    @classmethod
    def of_shares(cls, people: Numbers, hits: Numbers) -> "ArmSums":
        """Of so many people, of whom some did something."""
        return cls(people, hits, hits)

    def __add__(self, other: "ArmSums") -> "ArmSums":
        return ArmSums(self.people + other.people, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> Floats:
        """Per person; 0 without people."""
        return np.asarray(self.total / np.maximum(self.people, 1.0), np.float64)

    @property
    def variance(self) -> Floats:
        """Between people, by n − 1."""
        scatter = np.maximum(self.squares - self.total * self.mean, 0.0)
        return np.asarray(scatter / np.maximum(np.asarray(self.people) - 1.0, 1.0), np.float64)


@dataclass(frozen=True, eq=False)
class SequenceBounds:
    """The mean of the treated arm minus that of control, in the figure's unit per person.

    Attributes:
        difference: What it is so far.
        low: It is above it at all looks with a probability of 1 − alpha; −inf: nothing is known yet.
        high: It is below it likewise; both hold with 1 − 2 alpha.
    """

    difference: Floats
    low: Floats
    high: Floats

    def less(self, harm: float = 0.0) -> npt.NDArray[np.bool_]:
        """Whether the mean is lower for certain, and by as much as ``harm`` as far as one can see."""
        return (self.high < 0) & (self.difference <= -harm)

    def more(self, harm: float = 0.0) -> npt.NDArray[np.bool_]:
        """Whether it is higher for certain, and by as much as ``harm`` as far as one can see."""
        return (self.low > 0) & (self.difference >= harm)


def tuned_to(people: float, variance: float, ratio: float = 1.0, alpha: float = ALPHA) -> float:
    """For which variance of the treated sum :func:`difference_sequence` is made to be narrowest.

    It must be fixed before the experiment begins. A guess that is wrong by a factor of four widens the bounds by 6 %.

    Args:
        people: Treated people by whom a harm is to be seen.
        variance: Between people, of what they do until then: for a share p, p (1 − p).
        ratio: How many treated people come to one of control.
        alpha: As there.
    """
    once = 2 * log(1 / (2 * alpha))
    best = once
    for _ in range(_ROUNDS):  # the root of best = once + log(1 + best)
        best = once + log(1 + best)
    return people * variance * (1 + ratio) / best


def mixture_bound(variance: Numbers, tuned: float, alpha: float = ALPHA) -> Floats:
    """What a Brownian motion stays below at all times with a probability of 1 − alpha, by its variance so far.

    ``tuned`` is in the unit of ``variance``, by :func:`tuned_to`; alpha is at most .2.
    """
    grown = np.asarray(variance, np.float64) + tuned
    level = 2 * log(1 / (2 * alpha)) + np.log(grown / tuned)
    bound = np.sqrt(level)
    for _ in range(_STEPS):  # of Newton's
        below = scipy.special.log_ndtr(bound)
        slope = bound + np.exp(-(bound**2) / 2 - below) / sqrt(2 * pi)
        bound = bound - (bound**2 / 2 + below - level / 2) / slope
    return np.asarray(bound * np.sqrt(grown))


def difference_sequence(
    control: ArmSums, treatment: ArmSums, *, tuned: float, alpha: float = ALPHA, fewest: int = FEWEST
) -> SequenceBounds:
    """Bounds of the difference of two means that hold at all looks together.

    The ratio of the arms' sizes should stay as it is while one looks on. Control may be everybody who is not treated.
    The variance of an arm is its own, or that of both together where this is larger: a small arm in which hardly
    anything happened yet does not know its own. People count once each, whatever they do; that who did much goes on
    to do much makes false alarms rarer.

    Args:
        control: What its people did so far.
        treatment: What the treated did.
        tuned: By :func:`tuned_to`.
        alpha: The chance that one of the bounds is ever wrong.
        fewest: People in each arm from whom on something is said.
    """
    both = (control + treatment).variance
    treated = np.maximum(treatment.people, 1.0)
    own = treated * np.maximum(treatment.variance, both)
    variance = own + treated**2 * np.maximum(control.variance, both) / np.maximum(control.people, 1.0)
    known = np.minimum(control.people, treatment.people) >= fewest
    difference = np.asarray(treatment.mean - control.mean)
    away = np.where(known, mixture_bound(variance, tuned, alpha) / treated, inf)
    return SequenceBounds(difference, np.asarray(difference - away), np.asarray(difference + away))


def evidence_of_more(
    control: npt.ArrayLike,
    treatment: npt.ArrayLike,
    control_tries: npt.ArrayLike,
    treatment_tries: npt.ArrayLike,
    tolerated: float = 1.0,
) -> Floats:
    """How strongly counts say that an event comes more often in the treated arm, as logarithms of e-values.

    Of the events of a minute each falls to the treated arm by its share of the tries; how often events come at all may
    change from minute to minute, as when a database is down for both arms. With a probability of 1 − alpha the result
    never reaches log(1 / alpha) at any minute, unless events are more than ``tolerated`` times as frequent there.
    Tries are independent: of people who meet the same fault over and over count the first one, and people as tries.

    Args:
        control: Events by minute, in order, shape (n,), from the beginning of the stage on.
        treatment: Those of the treated arm.
        control_tries: Answers (or people) by minute.
        treatment_tries: Those of the treated arm.
        tolerated: Times as many that do no harm, at least 1.

    Returns:
        After each minute, shape (n,).
    """
    other, own, others, owns = (
        np.asarray(each, np.float64) for each in (control, treatment, control_tries, treatment_tries)
    )
    assumed = np.divide(owns, owns + others, out=np.zeros_like(owns), where=owns + others > 0)
    worse = tolerated * np.asarray(RATIOS)[:, None]
    gains = scipy.special.xlogy(own, worse / tolerated) - (own + other) * (
        np.log1p(assumed * (worse - 1)) - np.log1p(assumed * (tolerated - 1))
    )
    return np.asarray(scipy.special.logsumexp(np.cumsum(gains, axis=1), axis=0) - log(len(RATIOS)))
