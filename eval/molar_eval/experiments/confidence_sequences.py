"""Guardrails that may be looked at as often as one likes: intervals that hold at all looks together.

Sums over people are compared by the one-sided mixture of normals of Robbins 1970, doi:10.1214/aoms/1177696786, with
variances that are estimated, as in Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Time-uniform central limit
theory and asymptotic confidence sequences, doi:10.1214/24-AOS2408. Time is the variance of the treated arm's sum, not
the number of people, so that what people do later counts as well. Counts of rare events (errors, empty lists) are
compared exactly, by the share of them that falls to each arm (Lindon and Malek 2022, Anytime-valid inference for
multinomial count data, NeurIPS).
"""

from dataclasses import dataclass
from math import inf, log, pi, sqrt

import numpy as np
import numpy.typing as npt
import scipy

ALPHA = 0.01
"""The chance of a false alarm of one guardrail over all of its looks."""
FEWEST = 25
"""People in each arm below whom nothing is said: variances are not known yet."""
RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""How many times more of a rare event the evidence looks for, each with the same weight."""
_ROUNDS, _STEPS = 40, 3
Floats = npt.NDArray[np.float64]
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
