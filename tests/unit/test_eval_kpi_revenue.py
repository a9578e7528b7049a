"""Conversion and hit-weighted revenue against plain Python loops, and the coverage of their intervals."""

import numpy as np
import pytest

from molar_eval import statistics
from molar_eval.cases import Cases
from molar_eval.metrics import Purchases, estimate_kpis, target_values, user_kpis
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.ids import IdMap


def _random(seed, cases=200, users=120):
    random = np.random.default_rng(seed)
    counts = random.integers(0, 5, cases)
    items = int(counts.sum())
    return Purchases(
        user=random.integers(users, size=cases) * 7,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        rank=random.integers(0, 40, items),
        value=random.lognormal(1, 1, items),
    )


def _slowly(purchases, k):
    users = {}
    for case, user in enumerate(purchases.user.tolist()):
        found = users.setdefault(user, [0, 0.0, 0.0])
        for i in range(purchases.offsets[case], purchases.offsets[case + 1]):
            found[2] += purchases.value[i]
            if 1 <= purchases.rank[i] <= k:
                found[0] = 1
                found[1] += purchases.value[i]
    return users


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 10, 100])
def test_estimates_are_those_of_the_formulas(seed, k):
    purchases = _random(seed)
    users = _slowly(purchases, k)
    converted, captured, total = (sum(user[i] for user in users.values()) for i in range(3))
    found = estimate_kpis(purchases, [k], resamples=200)
    expected = {
        f"conversion@{k}": converted / len(users),
        f"revenue_per_user@{k}": captured / len(users),
        f"revenue_share@{k}": captured / total,
    }
    assert {name: interval.mean for name, interval in found.items()} == pytest.approx(expected)
    assert all(0 <= interval.low <= interval.mean <= interval.high for interval in found.values())
    figures = user_kpis(purchases, k)
    assert figures.user.tolist() == sorted(users)
    for i, name in enumerate(["converted", "captured", "total"]):
        assert getattr(figures, name).tolist() == pytest.approx([users[user][i] for user in sorted(users)])


def test_several_lengths_give_what_each_gives_alone():
    purchases = _random(4)
    together = estimate_kpis(purchases, [5, 20], resamples=100, seed=2)
    apart = estimate_kpis(purchases, [5], resamples=100, seed=2) | estimate_kpis(purchases, [20], resamples=100, seed=2)
    assert together == apart
    assert together != estimate_kpis(purchases, [5, 20], resamples=100, seed=3)


def test_the_cases_of_a_user_count_as_one():
    once = _random(5, cases=100, users=10**6)
    four = Purchases(
        np.tile(once.user, 4),
        np.concatenate([[0], np.cumsum(np.tile(np.diff(once.offsets), 4))]),
        np.tile(once.rank, 4),
        np.tile(once.value, 4),
    )
    one, repeated = estimate_kpis(once, [10]), estimate_kpis(four, [10])
    assert repeated["conversion@10"] == one["conversion@10"]
    assert repeated["revenue_per_user@10"].high == pytest.approx(4 * one["revenue_per_user@10"].high)
    assert repeated["revenue_share@10"].low == pytest.approx(one["revenue_share@10"].low)


def test_unlisted_items_and_users_without_items_are_misses():
    purchases = Purchases(np.array([1, 2, 3]), np.array([0, 2, 3, 3]), np.array([0, 11, 10]), np.array([5.0, 1, 4]))
    found = estimate_kpis(purchases, [10, 11], resamples=50)
    assert found["conversion@10"].mean == pytest.approx(1 / 3)
    assert found["conversion@11"].mean == pytest.approx(2 / 3)
    assert found["revenue_per_user@10"].mean == pytest.approx(4 / 3)
    assert found["revenue_share@10"].mean == pytest.approx(0.4)
    assert found["revenue_share@11"].mean == pytest.approx(0.5)


def test_nothing_of_value_has_no_share():
    purchases = Purchases(np.array([1, 2]), np.array([0, 1, 2]), np.array([1, 0]), np.zeros(2))
    found = estimate_kpis(purchases, [10], resamples=50)
    assert sorted(found) == ["conversion@10", "revenue_per_user@10"]
    assert found["revenue_per_user@10"].mean == 0


def test_events_are_revenue_of_one_each():
    purchases = _random(6)
    events = Purchases(purchases.user, purchases.offsets, purchases.rank, np.ones(len(purchases.rank)))
    share = estimate_kpis(events, [10], resamples=50)["revenue_share@10"].mean
    assert share == pytest.approx(np.mean((purchases.rank >= 1) & (purchases.rank <= 10)))


def test_many_users_are_drawn_in_groups(monkeypatch):
    purchases = _random(7, cases=3000, users=2000)
    alone = estimate_kpis(purchases, [10])
    monkeypatch.setattr(statistics, "MOST_UNITS", 60)
    grouped = estimate_kpis(purchases, [10])
    for name, interval in alone.items():
        assert grouped[name].mean == pytest.approx(interval.mean)
        assert grouped[name].high - grouped[name].low == pytest.approx(interval.high - interval.low, rel=0.3)


def test_intervals_cover_the_truth():
    # Users take 1 to 3 items of heavy-tailed prices, dearer where the user is rich; an item is listed with p = .2.
    random = np.random.default_rng(8)
    p, covered = 0.2, dict.fromkeys(["conversion@10", "revenue_per_user@10", "revenue_share@10"], 0)
    price = np.exp(0.8**2 / 2 + 0.5**2 / 2)
    truth = {
        "conversion@10": np.mean([1 - (1 - p) ** n for n in (1, 2, 3)]),
        "revenue_per_user@10": 2 * p * price,
        "revenue_share@10": p,
    }
    for simulation in range(200):
        counts = random.integers(1, 4, 300)
        wealth = np.repeat(random.normal(0, 0.5, 300), counts)
        value = np.exp(random.normal(0, 0.8, counts.sum()) + wealth)
        rank = np.where(random.random(len(value)) < p, random.integers(1, 11, len(value)), 0)
        purchases = Purchases(np.arange(300), np.concatenate([[0], np.cumsum(counts)]), rank, value)
        for name, interval in estimate_kpis(purchases, [10], resamples=200, seed=simulation).items():
            covered[name] += interval.low <= truth[name] <= interval.high
    assert all(180 <= count < 200 for count in covered.values()), covered


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"user": np.zeros(0, int), "offsets": np.zeros(1, int)}, "no cases"),
        ({"offsets": np.array([0, 1, 3])}, "do not fit"),
        ({"offsets": np.array([0, 2])}, "do not fit"),
        ({"rank": np.array([1, 2, 3])}, "do not fit"),
        ({"offsets": np.array([1, 1, 2])}, "do not fit"),
        ({"rank": np.array([1, -2])}, "rank is negative"),
        ({"value": np.array([1, -2.5])}, r"value 2 of the purchases is -2\.5"),
        ({"value": np.array([np.nan, 1])}, "value 1 of the purchases is nan"),
    ],
    ids=["none", "beyond", "short", "ranks", "start", "rank", "negative", "nan"],
)
def test_what_is_refused(change, text):
    good = {"user": np.array([3, 4]), "offsets": np.array([0, 1, 2]), "rank": np.array([1, 0]), "value": np.ones(2)}
    assert user_kpis(Purchases(**good), 1).captured.tolist() == [1, 0]
    with pytest.raises(DataError, match=text) as caught:
        user_kpis(Purchases(**(good | change)), 1)
    assert caught.value.hint


def test_list_lengths_that_make_no_sense():
    with pytest.raises(SettingsError, match="k is 0"):
        estimate_kpis(_random(1), [10, 0])
    with pytest.raises(SettingsError, match="no list length"):
        estimate_kpis(_random(1), [])


def _cases(seed):
    random = np.random.default_rng(seed)
    counts = random.integers(1, 12, 30)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    item = random.integers(6, size=offsets[-1]).astype(np.int32)
    users, items = (IdMap([str(i) for i in range(n)]) for n in (30, 6))
    log = Interactions(users, items, offsets, item, np.arange(len(item)))
    user = np.sort(random.integers(30, size=40))
    length = random.integers(0, counts[user] + 1)
    sets = [np.unique(log.history(u)[n:]) for u, n in zip(user, length, strict=True)]
    sets = [random.permutation(found)[: random.integers(0, len(found) + 1)] for found in sets]
    borders = np.concatenate([[0], np.cumsum([len(found) for found in sets])])
    cases = Cases(log, user, length, borders, np.concatenate(sets).astype(np.int32))
    return cases, random.uniform(1, 9, len(item))


@pytest.mark.parametrize("seed", range(4))
def test_values_of_targets_are_summed_from_the_case_on(seed):
    cases, value = _cases(seed)
    log, expected = cases.history, []
    for case in range(len(cases)):
        user = cases.user[case]
        for target in cases.targets[cases.offsets[case] : cases.offsets[case + 1]]:
            later = range(log.offsets[user] + cases.length[case], log.offsets[user + 1])
            expected.append(sum(value[row] for row in later if log.item[row] == target))
    assert target_values(cases, value).tolist() == pytest.approx(expected)
    assert min(expected) > 0


def test_values_of_no_targets():
    cases, value = _cases(1)
    none = cases.select(np.zeros(len(cases), bool))
    assert target_values(none, value).tolist() == []
    empty = Cases(cases.history, cases.user, cases.length, np.zeros(41, np.int64), np.zeros(0, np.int32))
    assert target_values(empty, value).tolist() == []
    with pytest.raises(DataError, match="values for"):
        target_values(cases, value[1:])
