"""What a shop of so many people can expect of an ε, before anything is spent.

Noise is the same whatever the number of people, and what they say together grows with it, so quality is a matter of
people / σ. The curve was measured on one dense data set; a shop whose people take fewer items has less to say.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from molar_retrieval.statistics.accounting import epsilon_of, noise_multiplier
from molar_retrieval.statistics.ledger import schedule

CURVE = ((1_430, 0.34), (2_710, 0.44), (5_060, 0.57), (9_250, 0.66), (50_600, 0.93), (143_000, 0.98))
"""People / σ, and the share of NDCG@10 that is left of what the same statistics give without noise, .1519.

Of the built-in encoder: ``python bench/private_statistics.py ml-1m/ WORKSPACE --cells 1x1,2x1,4x1,8x1,4x10,1x100``.
"""
SOURCE = "MovieLens-1M, 6,040 people with 166 films each, leave-one-out; more people by less noise"
EPSILONS = (1.0, 2.0, 4.0, 8.0)
RHYTHMS = (("once a year", 1), ("every quarter", 4), ("every month", 12), ("every week", 52), ("every night", 365))


@dataclass(frozen=True)
class ExpectedRelease:
    """A release, and what can be expected of it.

    Attributes:
        epsilon: Of the release.
        noise_multiplier: Standard deviation of the noise over the most that one person changes.
        share: Of the quality without noise, in [0, 1], within the curve.
        beyond: Whether people / σ lies outside what was measured: less than the ``share``, or more.
        a_year: How many such releases the year's budget bears.
    """

    epsilon: float
    noise_multiplier: float
    share: float
    beyond: bool
    a_year: int


@dataclass(frozen=True)
class PrivacyForecast:
    """What can be expected of releases.

    Attributes:
        people: In the log.
        yearly: ε that a year may take.
        delta: δ of each release, and of the year.
        releases: By their ε.
        rhythms: What the year's budget leaves for each release where there are several, by how often.
        source: What the curve was measured on.
    """

    people: int
    yearly: float
    delta: float
    releases: tuple[ExpectedRelease, ...]
    rhythms: dict[str, ExpectedRelease]
    source: str = SOURCE

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def forecast(people: int, yearly: float, delta: float, epsilons: tuple[float, ...] = EPSILONS) -> PrivacyForecast:
    """What to expect of releases at some ε, and of as many as one likes within a year's budget."""
    year = noise_multiplier(yearly, delta)
    rhythms = {name: _expected(people, times**0.5 * year, yearly, delta) for name, times in RHYTHMS}
    releases = tuple(_expected(people, noise_multiplier(one, delta), yearly, delta) for one in epsilons)
    return PrivacyForecast(people, yearly, delta, releases, rhythms)


def share_left(people: int, multiplier: float) -> tuple[float, bool]:
    """Share of the quality without noise by the curve, and whether people / σ lies outside of it."""
    at, (known, shares) = people / multiplier, zip(*CURVE, strict=True)
    return float(np.interp(np.log(max(at, 1e-9)), np.log(known), shares)), not known[0] <= at <= known[-1]


def _expected(people: int, multiplier: float, yearly: float, delta: float) -> ExpectedRelease:
    share, beyond = share_left(people, multiplier)
    epsilon = epsilon_of([multiplier], delta)
    return ExpectedRelease(epsilon, multiplier, share, beyond, schedule(multiplier, yearly, delta))
