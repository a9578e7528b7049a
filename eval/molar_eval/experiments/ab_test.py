"""Statistics of A/B tests: effects, ratio metrics, CUPED, power, sample ratio mismatch.

Source: Deng, Xu, Kohavi and Walker 2013, Improving the Sensitivity of Online Controlled Experiments by Utilizing
Pre-Experiment Data, doi:10.1145/2433396.2433413.

People are the unit: each counts once, with what they did altogether, so visits of one person need not be independent.
All is made from sums over people, so that arms can be added up piece by piece.

Source: Fabijan, Gupchup, Gupta, Omhover, Qin, Vermeer and Dmitriev 2019, Diagnosing sample ratio mismatch in online
controlled experiments, doi:10.1145/3292500.3330722.

Two arms are compared by the difference of their means, whose variances may differ, with a two-sided test:

    n = (z(1 - alpha/2) + z(power))² · (control variance / (1 - share) + treated variance / share) / difference²

with ``share`` of the n people in the treated arm (Chow, Shao, Wang and Lokhnygina 2017, Sample Size Calculations in
Clinical Research, section 3.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, sqrt

import numpy as np
import numpy.typing as npt
import scipy
from scipy.special import gammaln, xlogy

from molar_eval.statistics import root

Floats = npt.NDArray[np.float64]


def slope(outcome: Floats, before: Floats) -> float:
    """How much of an outcome goes with one unit of the same people's figure from before; 0 where that is constant."""
    spread = float(np.var(before))
    return 0.0 if spread == 0 else float(np.mean((outcome - outcome.mean()) * (before - before.mean()))) / spread


def explained(outcome: Floats, before: Floats) -> float:
    """The share of an outcome's variance that CUPED takes out, in [0, 1]: the squared correlation."""
    variance = float(np.var(outcome))
    return 0.0 if variance == 0 else min(1.0, slope(outcome, before) ** 2 * float(np.var(before)) / variance)


def adjusted(outcome: Floats, before: Floats) -> Floats:
    """Outcomes of all arms together without what was known of their people before; their mean stays."""
    found: Floats = outcome - slope(outcome, before) * (before - before.mean())
    return found


Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Moments:
    """Means and covariances of some figures of the people of an arm.

    Attributes:
        people: How many they are.
        mean: Of each figure, shape (k,).
        scatter: Sums of products of deviations from these, shape (k, k).
    """

    people: int
    mean: Floats
    scatter: Floats

    @classmethod
    def of(cls, *figures: npt.ArrayLike) -> "Moments":
        """Of figures of the same people, each of shape (n,)."""
        rows = np.array([np.asarray(one, np.float64) for one in figures])
        mean = rows.mean(axis=1) if rows.shape[1] else np.zeros(len(rows))
        off = rows - mean[:, None]
        return cls(rows.shape[1], mean, off @ off.T)

    @classmethod
    def of_sums(cls, people: int, totals: npt.ArrayLike, products: npt.ArrayLike) -> "Moments":
        """Of sums of figures, shape (k,), and of their products, shape (k, k); precise where figures are not huge."""
        total = np.asarray(totals, np.float64)
        mean = total / max(people, 1)
        return cls(people, mean, np.asarray(products, np.float64) - np.outer(total, mean))

    def __add__(self, other: "Moments") -> "Moments":
        people = self.people + other.people
        if not people:
            return self
        gap = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(gap, gap) * (self.people * other.people / people)
        return Moments(people, self.mean + gap * (other.people / people), scatter)

    @property
    def covariance(self) -> Floats:
        """Of the figures, by n − 1, shape (k, k)."""
        found: Floats = self.scatter / max(self.people - 1, 1)
        return found

    def weighted(self, weights: Floats, others: Floats | None = None) -> float:
        """The covariance of two weighted sums of the figures; without the second, the variance of the first."""
        return float(weights @ self.covariance @ (weights if others is None else others))


@dataclass(frozen=True)
class ArmComparison:
    """Two arms compared.

    Attributes:
        control: The mean (or ratio) of control, adjusted where there is CUPED.
        treatment: That of the treated arm.
        control_error: The standard error of the former.
        treatment_error: That of the latter.
        people: In control, in the treated arm.
        explained: Which share of the variance CUPED takes out.
    """

    control: float
    treatment: float
    control_error: float
    treatment_error: float
    people: tuple[int, int]
    explained: float = 0.0

    @property
    def difference(self) -> float:
        """The treated arm minus control."""
        return self.treatment - self.control

    @property
    def error(self) -> float:
        """The standard error of the difference."""
        return sqrt(self.control_error**2 + self.treatment_error**2)

    @property
    def information(self) -> float:
        """One over its square: how much is known of the difference; 0 where nothing varies yet."""
        return 1 / self.error**2 if self.error else 0.0

    @property
    def lift_information(self) -> float:
        """How much is known of the difference as a share of control.

        Of sums that grow while one looks on (what somebody has spent by now, whether they have bought) the difference
        grows as well, and its error; as shares of control both are in one unit at all looks. Standardised differences
        are then a Brownian motion in this information, also where some people always do more than others.
        """
        return self.control**2 * self.information

    @property
    def statistic(self) -> float:
        """The standardised difference; 0 where nothing varies yet."""
        return self.difference / self.error if self.error else 0.0

    @property
    def p(self) -> float:
        """Of a difference at least as large by chance, at one look alone."""
        return float(2 * scipy.special.ndtr(-abs(self.statistic)))

    def interval(self, bound: float) -> Interval:
        """Of the difference, so many standard errors to both sides.

        With the bounds of all looks (:mod:`.sequential`) the intervals of all of them hold together: they are the
        repeated confidence intervals of Jennison and Turnbull 1989, doi:10.1111/j.2517-6161.1989.tb01433.x.
        """
        return self.difference - bound * self.error, self.difference + bound * self.error

    @property
    def lift(self) -> float | None:
        """The difference as a share of control; None where control has nothing."""
        return self.difference / self.control if self.control else None

    def lift_interval(self, bound: float) -> Interval | None:
        """Of the lift, by Fieller's theorem; None where control cannot be told from nothing so that it has no bounds.

        Unlike an interval by the delta method it leaves out 0 exactly where that of the difference does, so that both
        never say different things of one look.

        Source: Fieller 1954, doi:10.1111/j.2517-6161.1954.tb00159.x.
        """
        slope = self.control**2 - (bound * self.control_error) ** 2
        if slope <= 0:
            return None
        middle = self.control * self.treatment
        root = sqrt(max(middle**2 - slope * (self.treatment**2 - (bound * self.treatment_error) ** 2), 0.0))
        return (middle - root) / slope - 1, (middle + root) / slope - 1

    def at_most(self, lift: float, bound: float) -> bool:
        """Whether the difference is no larger than a share of control, to either side, for certain."""
        low, high = self.lift_interval(bound) or (-inf, inf)
        return -lift <= low and high <= lift


def compare_means(control: Moments, treatment: Moments) -> ArmComparison:
    """The means of the first figure; a second one, what people did before, is taken out by CUPED.

    The slope is that of all people together (:mod:`.cuped`), so that it does not favour an arm.
    """
    return _compared(control, treatment, ratio=False)


def compare_ratios(control: Moments, treatment: Moments) -> ArmComparison:
    """The sums of the first figure by those of the second one, as clicks per list; a third by a fourth is CUPED's.

    Variances are those of the delta method with people as the unit.

    Source: Deng, Knoblich and Lu 2018, Applying the Delta Method in Metric Analytics, doi:10.1145/3219819.3219919.

    Raises:
        ValueError: If an arm has nothing of what is divided by.
    """
    return _compared(control, treatment, ratio=True)


def _compared(control: Moments, treatment: Moments, *, ratio: bool) -> ArmComparison:
    width = 2 if ratio else 1
    both = control + treatment
    if len(both.mean) not in (width, 2 * width):
        raise ValueError(f"{len(both.mean)} figures: give {width}, and as many again for CUPED")
    slope = spread = explained = 0.0
    if len(both.mean) == 2 * width:
        now, before = _gradient(both.mean, 0, width), _gradient(both.mean, width, width)
        spread = both.weighted(before)
        slope = both.weighted(now, before) / spread if spread > 0 else 0.0
        whole = both.weighted(now)
        explained = min(1.0, slope**2 * spread / whole) if whole > 0 else 0.0
    arms = [_adjusted(arm, both, slope, width) for arm in (control, treatment)]
    (mean, error), (other, others_error) = arms
    return ArmComparison(mean, other, error, others_error, (control.people, treatment.people), explained)


def _adjusted(arm: Moments, both: Moments, slope: float, width: int) -> tuple[float, float]:
    """The value of an arm without what was known of its people before, and its standard error."""
    weights = _gradient(arm.mean, 0, width)
    value = _value(arm.mean, 0, width)
    if slope:
        value -= slope * (_value(arm.mean, width, width) - _value(both.mean, width, width))
        weights = weights - slope * _gradient(arm.mean, width, width)
    return value, sqrt(max(arm.weighted(weights), 0.0) / max(arm.people, 1))


def _value(mean: Floats, first: int, width: int) -> float:
    """A mean, or a ratio of two."""
    return float(mean[first] if width == 1 else mean[first] / mean[first + 1])


def _gradient(mean: Floats, first: int, width: int) -> Floats:
    """By how much it changes with each figure."""
    found = np.zeros(len(mean))
    if width == 1:
        found[first] = 1.0
        return found
    if not mean[first + 1]:
        raise ValueError("nothing to divide by: an arm has none of the second figure")
    found[first : first + 2] = 1 / mean[first + 1], -mean[first] / mean[first + 1] ** 2
    return found


MISMATCH = 0.001
"""Below which p there is no verdict."""
_CONCENTRATION = 1_000.0


def sample_ratio_p(people: Sequence[int], shares: Sequence[float]) -> float:
    """How likely numbers at least as uneven are by chance; 1 without people.

    It may be asked at any time: that it is ever below p has a chance of at most p. It is one over the Bayes factor of a
    Dirichlet distribution around the planned shares.

    Args:
        people: In each arm.
        shares: Planned, in any unit, all above 0.

    Source: Lindon and Malek 2022, Anytime-valid inference for multinomial count data, NeurIPS.
    """
    planned, counts = _planned(people, shares), np.asarray(people, np.float64)
    prior = _CONCENTRATION * planned
    gained = gammaln(prior + counts).sum() - gammaln(prior).sum()
    lost = gammaln(_CONCENTRATION + counts.sum()) - gammaln(_CONCENTRATION)
    return float(min(1.0, np.exp(-(gained - lost - xlogy(counts, planned).sum()))))


def _planned(people: Sequence[int], shares: Sequence[float]) -> npt.NDArray[np.float64]:
    planned = np.asarray(shares, np.float64)
    if len(people) != len(shares) or len(people) < 2 or not (planned > 0).all() or min(people) < 0:
        raise ValueError(f"{people} people in arms of {shares}: give two arms or more, with shares above 0")
    return np.asarray(planned / planned.sum())


_LEAST, _MOST = 1e-9, 1e6  # effects that nobody asks for


@dataclass(frozen=True)
class UnchangedOutcome:
    """What people do without any change.

    Attributes:
        mean: Of their outcome: a share of people, or money.
        variance: Between people.
        binary: Whether the outcome is 0 or 1 for each of them.
    """

    mean: float
    variance: float
    binary: bool = False

    def lifted(self, lift: float) -> float:
        """The variance where the mean is higher by a share ``lift``, of everybody alike."""
        share = self.mean * (1 + lift)
        return share * (1 - share) if self.binary else self.variance * (1 + lift) ** 2

    @property
    def room(self) -> float:
        """By which share the mean can be higher at most."""
        return inf if not self.binary or self.mean == 0 else 1 / self.mean - 1


@dataclass(frozen=True)
class Design:
    """How an experiment is to be judged.

    Attributes:
        alpha: The chance of a false alarm, both sides together.
        power: The chance that an effect is seen that is there.
        treated: The share of its people in the new arm; the others are in the present one.
        inflation: By which factor looking before the end needs more people.
    """

    alpha: float = 0.05
    power: float = 0.8
    treated: float = 0.5
    inflation: float = 1.0

    def people(self, baseline: UnchangedOutcome, lift: float, explained: float = 0.0) -> int | None:
        """People in both arms that let one see a mean higher by a share ``lift``.

        ``explained`` is the share of variance that CUPED takes out. None where the mean cannot be so high, or is 0.
        """
        found = self._exactly(baseline, lift, explained)
        return None if found == inf else max(2, ceil(found - 1e-9))

    def smallest(self, baseline: UnchangedOutcome, people: int, explained: float = 0.0) -> float | None:
        """The smallest share by which the mean must be higher to be seen with so many people; None: none is seen."""
        most = min(_MOST, baseline.room)
        if people < 2 or most <= 0 or self._exactly(baseline, most, explained) > people:
            return None
        if self._exactly(baseline, _LEAST, explained) <= people:  # nothing varies
            return 0.0
        return root(lambda lift: self._exactly(baseline, lift, explained) - people, _LEAST, most, 1e-9)

    def arm_of(self, people: int) -> int:
        """How many of the people that an experiment takes must be in its smaller arm."""
        return max(1, ceil(people * min(self.treated, 1 - self.treated) - 1e-9))

    def smaller_arm(self, people: int) -> int:
        """How many of the people that come are in the smaller arm."""
        return int(people * min(self.treated, 1 - self.treated) + 1e-9)

    def _exactly(self, baseline: UnchangedOutcome, lift: float, explained: float) -> float:
        if baseline.mean <= 0 or lift > baseline.room:
            return inf
        z = float(scipy.special.ndtri(self.power) - scipy.special.ndtri(self.alpha / 2))
        spread = baseline.variance / (1 - self.treated) + baseline.lifted(lift) / self.treated
        return z * z * spread * (1 - explained) / (baseline.mean * lift) ** 2 * self.inflation
