"""Trend against a loop over all interactions; nothing from the day of the question on may count."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from eval_model_tasks import log_of

from molar_retrieval.models import popularity as trend_module
from molar_retrieval.models.popularity import DAY, HALF_LIVES, Popularity

START = 11_000 * DAY
N = 9


def random_log(n=400, days=60, seed=0):
    random = np.random.default_rng(seed)
    times = np.sort(START + random.integers(0, days * DAY, n))
    items = random.integers(0, N - 1, n)
    return log_of([items[:150].tolist(), [], items[150:].tolist()], N, times)


def slowly(log, half_life, moment):
    demand = [0.0] * log.n_items
    moment = min(moment, int(log.timestamp.max()) + DAY)
    midnight = moment - moment % DAY
    for item, second in zip(log.item.tolist(), log.timestamp.tolist(), strict=True):
        if second < midnight:
            days = (midnight - (second - second % DAY)) // DAY
            demand[item] += 2 ** (-days / half_life)
    return [math.log(one + 0.05) for one in demand]


@pytest.mark.parametrize("half_life", HALF_LIVES)
@pytest.mark.parametrize("spacing", [7, 1 << 21])
def test_against_a_loop(half_life, spacing, monkeypatch):
    monkeypatch.setattr(trend_module, "_SPACING", spacing)
    log = random_log()
    random = np.random.default_rng(1)
    times = START + random.integers(-3 * DAY, 80 * DAY, 50)  # out of order, days repeated, before and after the log
    got = Popularity.fit(log, half_life).log_scores(times)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [slowly(log, half_life, int(moment)) for moment in times], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("half_life", HALF_LIVES)
def test_nothing_from_the_day_on_matters(half_life):
    log = random_log()
    moment = START + 30 * DAY + 40_000
    future = log.timestamp >= START + 30 * DAY
    assert 0 < future.sum() < len(log)
    assert (log.timestamp[future] < moment).any()  # the same day, before the question
    changed = replace(log, item=np.where(future, (log.item + 1) % N, log.item).astype(np.int32))
    later = replace(log, timestamp=np.where(future, log.timestamp + 500 * DAY, log.timestamp))
    absent = log.select(~future)
    expected = Popularity.fit(log, half_life).log_scores(np.array([moment]))
    for other in (changed, later, absent):
        assert np.array_equal(Popularity.fit(other, half_life).log_scores(np.array([moment])), expected)
    past = replace(log, item=np.where(future, log.item, (log.item + 1) % N).astype(np.int32))
    assert not np.array_equal(Popularity.fit(past, half_life).log_scores(np.array([moment])), expected)


def test_midnight_in_utc_is_the_border():
    popularity = Popularity.fit(log_of([[0, 1]], 3, [START + DAY - 1, START + DAY]), math.inf)
    before, after = popularity.log_scores(np.array([START + DAY - 1, START + DAY]))
    np.testing.assert_allclose(np.exp(before), [0.05, 0.05, 0.05], rtol=1e-5)
    np.testing.assert_allclose(np.exp(after), [1.05, 0.05, 0.05], rtol=1e-5)


def test_now_is_the_day_after_the_last_interaction():
    log = log_of([[0, 1, 1]], 3, [START, START + 9 * DAY, START + 10 * DAY + 5])
    now = Popularity.fit(log, 10).now()
    assert now.shape == (3,)
    expected = [math.log(2 ** (-1.1) + 0.05), math.log(2 ** (-0.2) + 2 ** (-0.1) + 0.05), math.log(0.05)]
    np.testing.assert_allclose(now, expected, rtol=1e-6)


def test_after_the_log_what_was_in_demand_stays():
    popularity = Popularity.fit(random_log(), 3)
    long_after = popularity.log_scores(np.array([START + 61 * DAY, START + 900 * DAY]))
    assert np.array_equal(long_after, np.tile(popularity.now(), (2, 1)))
    assert len(np.unique(popularity.now())) > 5


def test_centuries_of_silence_are_no_trouble():
    popularity = Popularity.fit(log_of([[0, 1]], 2, [0, 100_000 * DAY]), 3)
    np.testing.assert_allclose(popularity.now(), np.log([0.05, 2 ** (-1 / 3) + 0.05]), rtol=1e-6)


@pytest.mark.parametrize("moment", [0, START])
def test_without_times_everything_always_counts(moment):
    log = replace(random_log(), timestamp=np.full(400, moment, np.int64))
    expected = np.log(np.bincount(log.item, minlength=N) + 0.05)
    popularity = Popularity.fit(log, 3)
    got = popularity.log_scores(np.array([0, START, START]))
    np.testing.assert_allclose(got, np.tile(expected, (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(popularity.now(), expected, rtol=1e-6)
    got[0] = 7  # the caller's own
    np.testing.assert_allclose(popularity.now(), expected, rtol=1e-6)


def test_an_empty_log_and_no_moments():
    empty = Popularity.fit(log_of([], N), 3)
    np.testing.assert_allclose(empty.now(), np.full(N, math.log(0.05)), rtol=1e-6)
    assert Popularity.fit(random_log(), 3).log_scores(np.zeros(0, np.int64)).shape == (0, N)


def test_a_block_of_cases_is_quick():
    random = np.random.default_rng(0)
    items = random.integers(0, 10_000, 200_000)
    log = log_of([items], 10_000, np.sort(START + random.integers(0, 700 * DAY, len(items))))
    popularity = Popularity.fit(log, 20)
    times = START + random.integers(0, 700 * DAY, 1000)
    began = time.process_time()
    assert popularity.log_scores(times).shape == (1000, 10_000)
    assert time.process_time() - began < 2
