"""The effect of a rule: found where one was planted, and not where there is none."""

import numpy as np
import pytest

from molar_eval.kpi.rule_effect import effect_of, whole_weeks


def simulated(effect: float, seed: int, *, rate: float = 15.0, days: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """What was taken on so many days before and since, with weekdays, a season, and days that are unlike others."""
    rng = np.random.default_rng(seed)
    day = np.arange(2 * days)
    shared = (1 + 0.4 * (day % 7 > 4)) * np.exp(0.6 * np.sin(2 * np.pi * day / 56)) * rng.gamma(20, 1 / 20, 2 * days)
    own = shared * rng.gamma(20, 1 / 20, 2 * days) * np.where(day < days, 1, 1 + effect)
    return rng.poisson(rate * own), rng.poisson(20 * rate * shared)


def test_where_there_is_no_effect_one_is_found_as_rarely_as_is_said() -> None:
    found = [effect_of(*simulated(0.0, seed, days=days)) for days in (7, 28) for seed in range(500)]
    for some in (found[:500], found[500:]):
        wrong = sum(one.certain for one in some) / len(some)
        assert wrong < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


def test_a_planted_effect_is_found_and_lies_in_the_interval() -> None:
    found = [effect_of(*simulated(0.4, seed)) for seed in range(200)]
    assert np.mean([one.certain for one in found]) > 0.9
    inside = [one.interval is not None and one.interval[0] < 0.4 < one.interval[1] for one in found]
    assert np.mean(inside) > 0.9
    assert np.mean([one.change or 0 for one in found]) == pytest.approx(0.4, abs=0.05)


def test_what_is_too_little_is_not_told() -> None:
    own, others = simulated(3.0, 0)
    assert effect_of(own[:6], others[:6]).lacking == "days"
    assert effect_of(np.minimum(own, 0), others).lacking == "taken"
    assert effect_of(own, np.minimum(others, 0)).lacking == "others"
    assert effect_of(np.minimum(own, 0), others).change is None
    assert [whole_weeks(days) for days in (0, 6, 7, 20, 300)] == [0, 0, 7, 14, 28]
