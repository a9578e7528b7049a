"""What people take again, against plain Python and on made-up logs."""

import math
from dataclasses import replace

import numpy as np
import pytest
from eval_model_tasks import log_of

from molar_retrieval.models.repeat_consumption import (
    DAY,
    RepeatConsumption,
    day_after,
    demanded,
    fit_repeat_consumption,
    history_items,
    over_items,
    seeing,
)

N = 12
START = 12_000 * DAY


def habits_of(numbers=(-2.0, 0.7, -0.4, -0.2, -0.3, 0.5), until=START + 100 * DAY, lift=3.0):
    tendency = np.linspace(-1, 1, N).astype(np.float32)
    tendency[N - 1] = -np.inf
    demand = np.linspace(1, -2, N).astype(np.float32)
    return RepeatConsumption(np.array(numbers), tendency, demand, lift, until)


def slowly(repeats, items, times, asked):
    """Scores by item as the docstring has them."""
    past = [(item, time // DAY) for item, time in zip(items, times, strict=True) if 0 < time // DAY < asked // DAY]
    today = {item for item, time in zip(items, times, strict=True) if time // DAY >= asked // DAY}
    visits, found = sorted({day for _, day in past}), {}
    for item in {item for item, _ in past} - today:
        days = sorted({day for own, day in past if own == item})
        usual = (days[-1] - days[0] + 60) / len(days)
        b = repeats.numbers
        logit = b[0] + b[1] * math.log(len(days)) + b[2] * math.log(1 + sum(day > days[-1] for day in visits))
        logit += (
            b[3] * math.log((asked // DAY - days[-1]) / usual + 0.1) ** 2
            + b[4] * math.log(len(visits))
            + b[5] * float(repeats.demand[item])
        )
        score = math.log1p(math.exp(logit + float(repeats.tendency[item]) + repeats.lift))
        found |= {item: score} if score else {}
    return found


def some_histories(seed=0):
    random = np.random.default_rng(seed)
    lengths = [0, 1, 30, 7, 60]
    items = [random.integers(0, N, length).tolist() for length in lengths]
    times = [np.sort(START + random.integers(0, 90 * DAY, length)).tolist() for length in lengths]
    return items, times


def test_scores_against_the_formula():
    items, times = some_histories()
    log = log_of(items, N, [time for own in times for time in own])
    asked = START + np.array([100, 100, 60, 90, 95]) * DAY
    repeats = habits_of()
    found = repeats.scores(replace(log, asked_at=asked))
    for user, (own, when) in enumerate(zip(items, times, strict=True)):
        wanted = slowly(repeats, own, when, int(asked[user]))
        assert {int(item): found[user, item] for item in np.flatnonzero(found[user])} == pytest.approx(wanted, rel=1e-5)
    assert (found > 0).sum() > 15


def test_one_history_is_read_as_all_of_them_are():
    items, times = some_histories(1)
    log, repeats = log_of(items, N, [time for own in times for time in own]), habits_of()
    together = (repeats.read(log) @ repeats.weights).toarray()
    for user, (own, when) in enumerate(zip(items, times, strict=True)):
        rows, scores = repeats(np.array(own, np.int64), np.array(when, np.int64))
        np.testing.assert_allclose(together[user, rows], scores, rtol=1e-6)
        assert np.count_nonzero(together[user]) == len(rows)


def test_what_was_taken_on_the_day_of_the_question_and_what_has_no_time_is_not_told():
    repeats = habits_of(until=START + 10 * DAY)
    rows, _ = repeats(np.array([0, 3, 4, 5]), np.array([0, START, START + DAY, START + 2 * DAY]))
    assert rows.tolist() == [3, 4, 5]
    rows, _ = repeats(np.array([3, 4, 3]), np.array([START, START + DAY, START + 11 * DAY]))
    assert rows.tolist() == [4], "a live event is later than the generation"
    assert repeats(np.array([], np.int64), np.array([], np.int64))[0].tolist() == []


def shoppers(people=150, again=True):
    """Everybody takes item 0 every 20 days, and something else, which nobody takes twice."""
    items, times = [], []
    for person in range(people):
        visits = range(person % 20, 120, 20)
        items.append(
            [item for n, _ in enumerate(visits) for item in ((0,) if again else ()) + (1 + (person + n) % 11,)]
        )
        times += [START + day * DAY for day in visits for _ in range(1 + again)]
    return log_of(items, N, times)


def test_what_is_taken_again_stands_before_what_is_not():
    log = shoppers()
    repeats = fit_repeat_consumption(log)
    assert repeats is not None
    assert repeats.until == day_after(log) == START + 120 * DAY
    scores = repeats.scores(log)
    others = np.array([scores[user, log.history(user)[1::2]].max() for user in range(log.n_users)])
    assert (scores[:, 0] > 2 * others).all()
    assert repeats.tendency[0] > repeats.tendency[1:].max()
    few = fit_repeat_consumption(log, least=len(log) + 1)
    assert few is not None
    assert not few.tendency.any(), "no item of its own where it rests on few people"


def test_nothing_is_learned_where_nothing_is_taken_again_or_there_are_no_times():
    log = shoppers()
    assert fit_repeat_consumption(shoppers(again=False)) is None
    assert fit_repeat_consumption(replace(log, timestamp=np.zeros(len(log), np.int64))) is None
    assert fit_repeat_consumption(log.select(np.zeros(len(log), bool))) is None
    assert fit_repeat_consumption(shoppers(people=5)) is None, "too few repeats"


def test_a_later_log_over_other_items():
    repeats, rows = habits_of(), np.array([3, -1, 0, N - 1, 5])
    log = log_of([[0, 1, 2, 3, 3]], 5, [START + day * DAY for day in (0, 1, 2, 3, 9)])
    now = over_items(repeats, rows, log)
    assert now.tendency.tolist() == [repeats.tendency[3], 0, repeats.tendency[0], 0, -np.inf]
    assert now.until == START + 10 * DAY
    assert now.demand.argmax() == 3
    assert len(now.demand) == 5
    again = RepeatConsumption.of(repeats.described(), repeats.to_tensors())
    assert np.array_equal(again.numbers, repeats.numbers)
    assert np.array_equal(again.demand, repeats.demand)
    assert (again.lift, again.until) == (repeats.lift, repeats.until)


def test_demand_is_that_of_the_day_of_the_question():
    log = shoppers()
    repeats = fit_repeat_consumption(log)
    days = [40, 90]
    asked = replace(log.of_users(np.array([3, 3])), asked_at=np.array([START + day * DAY for day in days]))
    pairs = history_items(asked.user, asked.item, asked.timestamp, asked.asked_at)
    found = demanded(repeats.popularity, pairs, asked.asked_at)
    table = repeats.popularity.log_scores(asked.asked_at)
    assert found == pytest.approx(table[pairs.users, pairs.items])
    end = replace(asked, asked_at=np.full(2, repeats.until))
    np.testing.assert_allclose(repeats.scores(end), repeats.scores(replace(end, asked_at=None)), rtol=1e-5)
    earlier = seeing(repeats, log.select(log.timestamp < START + 80 * DAY))
    assert not np.allclose(earlier.scores(end), repeats.scores(end))
