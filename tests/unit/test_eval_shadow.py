"""Two arms compared by requests that both ranked: times with intervals, errors, empty lists, prices."""

import time

import numpy as np
import pytest

from molar_eval.experiments.interleaving import compared_shadows
from molar_retrieval.experiments.records import ShadowRow


def rows(n, seed=0, slower=1.0, burst=1):
    """Requests of which each ``burst`` are slow together."""
    rng = np.random.default_rng(seed)
    busy = np.repeat(rng.lognormal(0, 0.5, -(-n // burst)), burst)[:n]
    times = busy[:, None] * rng.lognormal(1, 0.2, (n, 2)) * (1.0, slower)
    return [
        ShadowRow(at, 0.8, *pair, control_price=10.0, treatment_price=12.0) for at, pair in enumerate(times.tolist())
    ]


def test_of_no_request_nothing_is_known():
    assert compared_shadows([]) is None


def test_lists_errors_and_prices_are_counted():
    found = compared_shadows(
        [
            ShadowRow(1, 1.0, 5.0, 6.0, control_price=10.0, treatment_price=20.0),
            ShadowRow(2, 0.4, 5.0, 6.0, control_price=30.0, treatment_price=20.0),
            ShadowRow(3, 0.0, 5.0, 6.0, treatment_empty=True, control_price=7.0),
            ShadowRow(4, 0.0, 9.0, 6.0, treatment_error=True),
            ShadowRow(5, 0.0, 9.0, 6.0, treatment_error=True, control_error=True),
            ShadowRow(6, 0.0, 9.0, 90.0, control_error=True),
        ]
    )
    assert (found.requests, found.errors, found.empty) == (3, 1, 1)
    assert found.overlap == pytest.approx(1.4 / 3)
    assert found.identical == pytest.approx(1 / 3)
    assert (found.p99, found.p99_ratio) == ((5.0, 6.0), pytest.approx(1.2))
    assert [arm.mean for arm in found.prices] == [20.0, 20.0]
    assert found.prices[0].quantiles == pytest.approx((12.0, 20.0, 28.0))
    assert found.price == 1


def test_where_one_arm_always_fails_the_failures_are_told_and_nothing_else():
    found = compared_shadows([ShadowRow(n, 0.0, 1.0, 1.0, treatment_error=True) for n in range(50)])
    assert (found.requests, found.errors, found.overlap, found.prices) == (0, 50, 0.0, None)
    assert found.p99_high > 1.2


def test_an_empty_list_of_the_control_arm_makes_up_for_one_of_the_treatment():
    pair = [ShadowRow(1, 0.0, 1, 1, treatment_empty=True), ShadowRow(2, 0.0, 1, 1, control_empty=True)]
    assert compared_shadows(pair).empty == 0
    assert compared_shadows(pair[1:]).empty == -1


def test_a_slower_arm_is_told_from_one_that_is_not():
    same, slower = compared_shadows(rows(4000)), compared_shadows(rows(4000, slower=1.5))
    assert same.p99_low < 1 < same.p99_high < 1.2
    assert 1.2 < slower.p99_low < 1.5 < slower.p99_high
    assert slower.p99_ratio == pytest.approx(slower.p99[1] / slower.p99[0])
    assert compared_shadows(rows(200)).p99_high > same.p99_high


@pytest.mark.parametrize("burst", [1, 20])
def test_intervals_hold_the_ratio_as_often_as_they_say(burst):
    """The arms are alike, so the ratio is 1; where requests are slow in bursts as well."""
    held = 0
    for seed in range(40):
        found = compared_shadows(rows(1500, seed, burst=burst))
        held += found.p99_low <= 1 <= found.p99_high
    assert held >= 33  # of 38 that are expected


def test_as_many_requests_as_are_kept_are_compared_in_time():
    many = rows(50_000)
    began = time.process_time()
    assert compared_shadows(many).requests == 50_000
    assert time.process_time() - began < 6
