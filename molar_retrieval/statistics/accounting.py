"""How much privacy Gaussian releases take, alone and together: (ε, δ) for one person added or removed.

A noise multiplier is the standard deviation of the noise over the most that one person changes in what is released.
The privacy loss of a Gaussian release is normal, and the losses of several add up to one that is normal again, so that
they take together what a single one with ``1 / σ² = Σ 1 / σᵢ²`` takes, also where each was chosen after the ones before
were seen (Dong, Roth, Su 2022, doi:10.1111/rssb.12454). dp-accounting turns that into (ε, δ) exactly (Balle, Wang 2018,
arXiv 1805.06530); ε of single releases added up would be far more.
"""

from collections.abc import Iterable

import numpy as np

_SAFE = 1 + 1e-9
"""Above what a numeric solution is off by."""


def noise_multiplier(epsilon: float, delta: float) -> float:
    """The least noise by which one Gaussian release is (ε, δ)-differentially private."""
    from dp_accounting import get_sigma_gaussian

    return _SAFE * float(get_sigma_gaussian(epsilon, delta))


def composed(multipliers: Iterable[float]) -> float:
    """The noise multiplier of the one release that takes what these take together; infinite where there are none."""
    information = sum(multiplier**-2 for multiplier in multipliers)
    return float(information**-0.5) if information else float(np.inf)


def epsilon_of(multipliers: Iterable[float], delta: float) -> float:
    """The ε of some Gaussian releases of the same people's data together, at δ; 0 without any."""
    from dp_accounting import get_epsilon_gaussian

    return float(get_epsilon_gaussian(composed(multipliers), delta))


def epsilon_left(multipliers: Iterable[float], epsilon: float, delta: float) -> float:
    """The largest ε of one more release with which all together stay within (ε, δ); 0 where there is none."""
    information = noise_multiplier(epsilon, delta) ** -2 - composed(multipliers) ** -2
    return epsilon_of([information**-0.5], delta) if information > 0 else 0.0
