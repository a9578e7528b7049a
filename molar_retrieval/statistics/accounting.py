"""How much privacy Gaussian releases take, alone and together: (ε, δ) for one person added or removed.

A noise multiplier is the standard deviation of the noise over the most that one person changes in what is released.
The privacy loss of a Gaussian release is normal, and the losses of several add up to one that is normal again, so that
they take together what a single one with ``1 / σ² = Σ 1 / σᵢ²`` takes, also where each was chosen after the ones before
were seen (Dong, Roth, Su 2022, doi:10.1111/rssb.12454). The exact δ of a Gaussian release is that of Balle, Wang 2018
(arXiv 1805.06530, theorem 8); ε of single releases added up would be far more.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

_SAFE = 1 + 1e-9
"""Above what a numeric solution is off by."""


def noise_multiplier(epsilon: float, delta: float) -> float:
    """The least noise by which one Gaussian release is (ε, δ)-differentially private."""
    return _SAFE * math.exp(_root(lambda log_sigma: _log_delta(epsilon, math.exp(log_sigma)) - math.log(delta), 0.0))


def _log_delta(epsilon: float, sigma: float) -> float:
    """Logarithm of the δ at which a Gaussian release with noise σ is (ε, δ)-differentially private, exactly."""
    from scipy.special import log_ndtr

    above = log_ndtr(0.5 / sigma - epsilon * sigma)
    ratio = epsilon + log_ndtr(-0.5 / sigma - epsilon * sigma) - above
    return float(above + np.log(-np.expm1(ratio))) if ratio < 0 else -math.inf


def _root(falling: Callable[[float], float], start: float) -> float:
    """Where a falling function is zero, from a point somewhere."""
    from scipy.optimize import brentq

    step = 1.0
    while falling(start - step) < 0 or falling(start + step) > 0:
        step *= 2  # doubled until the zero lies between
    return float(brentq(falling, start - step, start + step, xtol=1e-14, rtol=1e-14))


def composed(multipliers: Iterable[float]) -> float:
    """The noise multiplier of the one release that takes what these take together; infinite where there are none."""
    information = sum(multiplier**-2 for multiplier in multipliers)
    return float(information**-0.5) if information else float(np.inf)


def epsilon_of(multipliers: Iterable[float], delta: float) -> float:
    """The ε of some Gaussian releases of the same people's data together, at δ; 0 without any."""
    from scipy.optimize import brentq

    sigma = composed(multipliers)

    def excess(epsilon: float) -> float:
        return _log_delta(epsilon, sigma) - math.log(delta)

    if math.isinf(sigma) or excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-15, rtol=1e-14))


def epsilon_left(multipliers: Iterable[float], epsilon: float, delta: float) -> float:
    """The largest ε of one more release with which all together stay within (ε, δ); 0 where there is none."""
    information = noise_multiplier(epsilon, delta) ** -2 - composed(multipliers) ** -2
    return epsilon_of([information**-0.5], delta) if information > 0 else 0.0
