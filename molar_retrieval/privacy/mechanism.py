"""The Gaussian mechanism: accounting of (ε, δ), calibration of the noise, and the noise itself.

**Accounting** is for one person added or removed. A noise multiplier is the standard deviation of the noise over the
most that one person changes. Losses of Gaussian releases add up to that of a single one with ``1 / σ² = Σ 1 / σᵢ²``,
also where each was chosen after the ones before were seen (Dong, Roth, Su 2022, doi:10.1111/rssb.12454). The exact δ of
a release is that of Balle, Wang 2018 (arXiv 1805.06530, theorem 8).

**Noise** is the discrete Gaussian on whole numbers (Canonne, Kamath and Steinke 2020, arXiv 2004.00010) from the
operating system's entropy. Floating-point noise betrays by its last bits what it was added to (Mironov 2012,
doi:10.1145/2382196.2382264), and noise from a seed can be subtracted by whoever has the seed.
"""

import math
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.errors import SettingsError

_SAFE = 1 + 1e-9
"""Above what a numeric solution is off by."""
_BETWEEN = -20.0, 20.0
"""Logarithms of the least and the most noise that is thought of."""


def noise_multiplier(epsilon: float, delta: float) -> float:
    """The least noise by which one Gaussian release is (ε, δ)-differentially private."""
    from scipy.optimize import brentq

    log_sigma = brentq(
        lambda at: _log_delta(epsilon, math.exp(at)) - math.log(delta), *_BETWEEN, xtol=1e-14, rtol=1e-14
    )
    return _SAFE * math.exp(log_sigma)


def _log_delta(epsilon: float, sigma: float) -> float:
    """Logarithm of the δ at which a Gaussian release with noise σ is (ε, δ)-differentially private, exactly."""
    from scipy.special import log_ndtr

    above = log_ndtr(0.5 / sigma - epsilon * sigma)
    ratio = epsilon + log_ndtr(-0.5 / sigma - epsilon * sigma) - above
    return float(above + np.log(-np.expm1(ratio))) if ratio < 0 else -sys.float_info.max


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
    most = 0.5 / sigma**2 + math.sqrt(-2 * math.log(delta)) / sigma  # by the bound of zero-concentrated privacy
    return float(brentq(excess, 0.0, most, xtol=1e-15, rtol=1e-14))


def epsilon_left(multipliers: Iterable[float], epsilon: float, delta: float) -> float:
    """The largest ε of one more release with which all together stay within (ε, δ); 0 where there is none."""
    information = noise_multiplier(epsilon, delta) ** -2 - composed(multipliers) ** -2
    return epsilon_of([information**-0.5], delta) if information > 0 else 0.0


GRID = 2**14
"""Standard deviation of the noise, in whole numbers."""
_BITS = 128
_GUARD = 256
_NEGLIGIBLE = 140
_CHUNK = 1 << 20

Whole = npt.NDArray[np.int64]


def discrete_gaussian(count: int) -> Whole:
    """Independent draws x with a probability in proportion to ``exp(-x² / (2 · GRID²))``, shape (count,).

    By inversion of a table of 128-bit probabilities: the distance in total variation is below 2⁻¹⁰⁰ for each draw.
    """
    found = np.empty(count, np.int64)
    for begin in range(0, count, _CHUNK):
        found[begin : begin + _CHUNK] = _draws(min(_CHUNK, count - begin))
    return found


def _draws(count: int) -> Whole:
    high, _ = _table()
    uniform = np.frombuffer(os.urandom(8 * count), np.uint64)
    size = np.searchsorted(high, uniform, side="right")
    for place in np.flatnonzero((size > 0) & (high[np.maximum(size, 1) - 1] == uniform)):
        size[place] = _undecided(int(uniform[place]))
    sign = np.unpackbits(np.frombuffer(os.urandom(-(-count // 8)), np.uint8), count=count)
    return np.where(sign == 1, -size, size)


def _undecided(uniform: int) -> int:
    """The draw where the first 64 bits are those of a border, by 64 more."""
    high, low = _table()
    number = uniform << 64 | int.from_bytes(os.urandom(8), "big")
    first = int(np.searchsorted(high, np.uint64(uniform), side="left"))
    same = range(first, int(np.searchsorted(high, np.uint64(uniform), side="right")))
    return first + sum(int(high[place]) << 64 | int(low[place]) <= number for place in same)


@lru_cache(maxsize=1)
def _table() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Probabilities of at most 0, 1, 2 … from zero in units of 2⁻¹²⁸: the first 64 bits of each, and the others."""
    one = 1 << _GUARD
    with localcontext() as context:
        context.prec = 100
        ratio = int((Decimal(-1) / (2 * GRID**2)).exp() * one)
    square = ratio * ratio >> _GUARD
    weight, total = one, 0
    sums: list[int] = []
    while weight > one >> _NEGLIGIBLE:
        total += weight if not sums else 2 * weight
        sums.append(total)
        weight, ratio = weight * ratio >> _GUARD, ratio * square >> _GUARD
    borders = [(value << _BITS) // total for value in sums[:-1]]
    mask = (1 << 64) - 1
    return np.array([b >> 64 for b in borders], np.uint64), np.array([b & mask for b in borders], np.uint64)


LATTICE = 0.999
"""Share of δ that is calibrated for. Noise on whole numbers differs from the continuous one by less than the rest."""


@dataclass(frozen=True)
class GaussianMechanism:
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
        """With the least noise that is enough; a SettingsError for values that promise nothing."""
        if math.isnan(epsilon) or epsilon <= 0:
            raise SettingsError(f"an epsilon of {epsilon} is impossible", "choose one above 0; 1 to 8 are usual")
        if not 0 < delta < 1:
            raise SettingsError(f"a delta of {delta} promises nothing", "choose one below 1 / people, as 1e-6")
        return cls(epsilon, delta, noise_multiplier(epsilon, delta * LATTICE))
