"""Noise: how much an ε takes, by another formula; the distribution of the draws; where they come from."""

import math
import os

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import chisquare, norm

from molar_retrieval.errors import SettingsError
from molar_retrieval.privacy import mechanism as noise
from molar_retrieval.privacy.mechanism import GRID, LATTICE, GaussianMechanism, discrete_gaussian


def analytic(epsilon, sigma):
    """δ of a Gaussian mechanism (Balle and Wang 2018, theorem 8)."""
    return norm.cdf(1 / (2 * sigma) - epsilon * sigma) - math.exp(epsilon) * norm.cdf(
        -1 / (2 * sigma) - epsilon * sigma
    )


@pytest.mark.parametrize("epsilon", [0.5, 1, 4, 8])
@pytest.mark.parametrize("delta", [1e-6, 1e-9])
def test_epsilon_is_that_of_the_analytic_formula(epsilon, delta):
    mechanism = GaussianMechanism.of(epsilon, delta)
    found = brentq(lambda e: math.log(analytic(e, mechanism.sigma) / (LATTICE * delta)), epsilon / 2, 2 * epsilon)
    assert found == pytest.approx(epsilon, abs=1e-6)


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 1e-6), (-1, 1e-6), (math.nan, 1e-6), (1, 0), (1, 1)])
def test_what_promises_nothing_is_refused(epsilon, delta):
    with pytest.raises(SettingsError):
        GaussianMechanism.of(epsilon, delta)


def test_draws_are_gaussian_on_whole_numbers():
    drawn = discrete_gaussian(200_000)
    assert drawn.dtype == np.int64
    borders = norm.ppf(np.linspace(0, 1, 51)[1:-1])
    counts = np.bincount(np.searchsorted(borders, (drawn + 0.5) / GRID), minlength=50)
    assert chisquare(counts).pvalue > 1e-6
    assert drawn.std() / GRID == pytest.approx(1, abs=5 / math.sqrt(2 * 200_000))


def test_the_table_is_that_of_the_exact_probabilities():
    high, low = noise._table()
    places = np.array([0, 1, 5_000, GRID, 3 * GRID])
    total = 1 + 2 * sum(math.exp(-(k**2) / (2 * GRID**2)) for k in range(1, 14 * GRID))
    for place in places.tolist():
        exact = (1 + 2 * sum(math.exp(-(k**2) / (2 * GRID**2)) for k in range(1, place + 1))) / total
        assert (int(high[place]) + int(low[place]) / 2**64) / 2**64 == pytest.approx(exact, rel=1e-12)
    assert (np.diff(high.astype(object)) >= 0).all()


def test_a_draw_on_a_border_is_decided_by_more_bits(monkeypatch):
    high, low = noise._table()
    place = 7_000
    border = int(high[place]).to_bytes(8, "little")

    def entropy(further):
        return lambda count: border if count == 8 and not asked.append(count) and len(asked) == 1 else further[:count]

    for further, expected in ((0, place), (int(low[place]), place + 1), (2**64 - 1, place + 1)):
        asked = []
        monkeypatch.setattr(os, "urandom", entropy(further.to_bytes(8, "big")))
        assert abs(discrete_gaussian(1)[0]) == expected


def test_nothing_but_the_system_is_asked_for_entropy(monkeypatch):
    def refuse(*_):
        raise AssertionError("a generator was asked")

    first = discrete_gaussian(50)
    monkeypatch.setattr(np.random, "default_rng", refuse)
    np.random.seed(0)  # noqa: NPY002
    again = discrete_gaussian(50)
    np.random.seed(0)  # noqa: NPY002
    assert len({tuple(first), tuple(again), tuple(discrete_gaussian(50))}) == 3
