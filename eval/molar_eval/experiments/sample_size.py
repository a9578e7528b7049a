"""How many people an experiment needs to see an effect, and which effect so many people let one see.

Two arms are compared by the difference of their means, whose variances may differ, with a two-sided test:

    n = (z(1 - alpha/2) + z(power))² · (control variance / (1 - share) + treated variance / share) / difference²

with ``share`` of the n people in the treated arm (Chow, Shao, Wang and Lokhnygina 2017, Sample Size Calculations in
Clinical Research, section 3.2).
"""

from dataclasses import dataclass
from math import ceil, inf

import scipy

from molar_eval.statistics.roots import root

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
