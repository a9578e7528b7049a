"""How much noise is added for an ε and a δ."""

import math
from dataclasses import dataclass
from typing import Self

from molar_retrieval.errors import SettingsError
from molar_retrieval.statistics.accounting import noise_multiplier

LATTICE = 0.999
"""Share of δ that is calibrated for. Noise on whole numbers differs from the continuous one by less than the rest."""


@dataclass(frozen=True)
class Mechanism:
    """One Gaussian release, in which each person's contribution has length 1 at most.

    Two logs that differ by one person, who is in one of them and not in the other, give results whose probabilities
    differ by a factor of at most e^ε, but for a probability of δ. Infinite ε: without noise, for comparisons.

    Attributes:
        epsilon: ε > 0.
        delta: δ, in (0, 1); well below one divided by the number of people.
        sigma: Standard deviation of the noise in units of one person's contribution.
    """

    epsilon: float
    delta: float
    sigma: float

    @classmethod
    def of(cls, epsilon: float, delta: float = 1e-6) -> Self:
        """With the least noise that is enough, see :func:`molar_retrieval.statistics.accounting.noise_multiplier`.

        SettingsError for values that promise nothing.
        """
        if math.isnan(epsilon) or epsilon <= 0:
            raise SettingsError(f"an epsilon of {epsilon} is impossible", "choose one above 0; 1 to 8 are usual")
        if not 0 < delta < 1:
            raise SettingsError(f"a delta of {delta} promises nothing", "choose one below 1 / people, as 1e-6")
        return cls(epsilon, delta, noise_multiplier(epsilon, delta * LATTICE))
