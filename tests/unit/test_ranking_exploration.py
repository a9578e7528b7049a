"""Draws of new items: who is tried, with which probability, and that the same answer comes again."""

from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from molar_retrieval.ranking.candidates import Candidates
from molar_retrieval.ranking.exploration import explored, gumbel, inclusion
from molar_retrieval.ranking.objectives import Slots, last
from molar_retrieval.ranking.query import Exploration, draw_of

DAY = 86_400_000_000


def listed(rows: list[int], scores: Any, cold: Any = False, lift: Any = 0.0) -> Candidates:
    zeros = np.zeros(len(rows))
    marks = np.broadcast_to(np.asarray(cold), zeros.shape).copy()
    own = np.asarray(scores, float)[:, None]
    return Candidates(np.array(rows, np.int64), own, zeros + lift, marks, zeros, zeros + 1)


def known(count: int = 30) -> Candidates:
    return listed(list(range(count)), 10 - 0.1 * np.arange(count))


def drawn(plan: Exploration, old: Candidates, new: Candidates, k: int = 10, draws: int = 4000) -> list[Candidates]:
    return [explored(old, new, plan, f"person {n}", k) for n in range(draws)]


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_propensities_are_those_of_drawing_one_after_the_other(count: int) -> None:
    logits = np.array([0.3, -1.0, 2.0, 0.0, -0.4, -6.0])
    weights = np.exp(logits)
    expected = np.zeros(6)
    for order in permutations(range(6), count):
        chance, left = 1.0, weights.sum()
        for one in order:
            chance *= weights[one] / left
            left -= weights[one]
        expected[list(order)] += chance
    found = inclusion(logits, count, np.arange(6))
    assert found == pytest.approx(expected, abs=1e-8)
    assert found.sum() == pytest.approx(count)
    assert inclusion(logits + 1000, count, np.array([2, 0])) == pytest.approx(expected[[2, 0]], abs=1e-8)


@pytest.mark.parametrize(
    ("slots", "k"), [(last(1), 10), (last(3), 10), (last(3), 8), (last(2), 30), ((3, 6, 10), 10), ((3, 6, 10), 6)]
)
def test_propensities_are_how_often_an_item_is_there(slots: Slots, k: int) -> None:
    new = listed([100 + n for n in range(12)], np.linspace(1, -3, 12), cold=True)
    lists, told = drawn(Exploration(slots, 0.9), known(), new, k), Counter[int]()
    seen, sums = Counter[int](), Counter[int]()
    for one in lists:
        for row, chance in zip(one.rows[: min(k, 10)].tolist(), one.propensity, strict=False):
            seen[row] += 1
            sums[row] += chance  # type: ignore[assignment]
            told[row] = max(told[row], 1)
    for row in told:
        share, chance = seen[row] / len(lists), sums[row] / seen[row]
        assert share == pytest.approx(chance, abs=4 * np.sqrt(0.25 / len(lists)))
    assert {row for row in told if row >= 100} == set(range(100, 112)), "each has its chance"
    assert all(np.isnan(one.propensity[10:]).all() for one in lists)


def test_emerging_items_are_drawn_as_well_and_their_propensity_is_right_whatever_their_own_place() -> None:
    rows = [5, 7, 8, 12, 200, 201]  # the first stands among the seven that are certain
    new = listed(rows, [3.0, 0.5, 0.0, 0.5, 0.4, -1.0], cold=np.array(rows) >= 200)
    lists = drawn(Exploration(last(3), 1.0), known(), new)
    seen = Counter(row for one in lists for row in one.rows[:10].tolist())
    for one in lists[:50]:
        assert len(set(one.rows.tolist())) == len(one)
        assert one.rows[:7].tolist() == list(range(7)), "what is certain stays"
        assert set(one.rows[7:10].tolist()) <= {7, 8, 12, 200, 201}
        assert {row for row in range(30)} <= set(one.rows.tolist()), "who is not drawn stays where it is"
    chances = inclusion(np.array([0.5, 0.0, 0.5, 0.4, -1.0]), 3, np.arange(5))
    for row, chance in zip([7, 8, 12, 200, 201], chances, strict=True):
        assert seen[row] / len(lists) == pytest.approx(chance, abs=0.03)
        assert {
            round(p, 9) for one in lists for r, p in zip(one.rows[:10], one.propensity, strict=False) if r == row
        } == {round(chance, 9)}


def test_scores_fall_and_the_parts_of_what_is_tried_are_its_own() -> None:
    new = listed([3, 40, 41, 42], [-50.0, 700.0, 699.0, 600.0], cold=np.array([False, True, True, True]), lift=2.0)
    for one in drawn(Exploration(last(2), 10.0), known(), new, draws=50):
        assert (np.diff(one.scores) <= 1e-9).all()
        for row, parts, cold in zip(one.rows.tolist(), one.parts[:, 0], one.cold, strict=True):
            assert parts == (10 - 0.1 * row if row < 30 else {40: 700.0, 41: 699.0, 42: 600.0}[row])
            assert cold == (row >= 40)


def test_a_list_is_the_same_again_and_another_one_on_another_day() -> None:
    new = listed([100 + n for n in range(12)], np.linspace(1, -1, 12), cold=True)
    plan = Exploration(last(2), 1.0)
    days = []
    for day in range(30):
        name = draw_of("anna", [1, 2], 19_000 * DAY + day * DAY)
        assert name == draw_of("anna", [3], 19_000 * DAY + day * DAY + 5_000_000), "history does not matter"
        first, again = (explored(known(), new, plan, name, 10).rows.tolist() for _ in range(2))
        assert first == again
        days.append(tuple(first[8:10]))
    assert len(set(days)) > 10
    assert draw_of("", [1, 2], DAY) != draw_of("", [1, 3], DAY)


def test_who_comes_or_goes_changes_nobody_elses_luck() -> None:
    rows = np.arange(100_000)
    noise = gumbel("a", rows)
    assert gumbel("a", rows[::7]).tolist() == noise[::7].tolist()
    assert noise.mean() == pytest.approx(0.5772, abs=0.02)
    assert noise.var() == pytest.approx(np.pi**2 / 6, rel=0.03)
    assert abs(np.corrcoef(noise, gumbel("b", rows))[0, 1]) < 0.02


@pytest.mark.parametrize("count", [0, 2, 6, 9, 10, 25])
@pytest.mark.parametrize("fresh", [0, 1, 4, 20])
def test_short_catalogues_are_listed_whole(count: int, fresh: int) -> None:
    new = listed([100 + n for n in range(fresh)], np.linspace(1, -1, fresh), cold=True)
    for k in (3, 10, 60):
        one = explored(known(count), new, Exploration(last(3), 1.0), "a", k)
        assert sorted(one.rows.tolist()) == [*range(count), *(100 + n for n in range(fresh))]
        before = min(10 - min(3, fresh), count)
        assert one.rows[:before].tolist() == list(range(before))
        assert (one.propensity[:before] == 1).all()
        if count + fresh <= min(k, 10):
            assert (one.propensity == 1).all(), "all are shown whatever is drawn"


def test_the_best_of_many_take_part_and_all_others_come_behind_them() -> None:
    new = listed([100 + n for n in range(400)], np.linspace(1, -1, 400), cold=True)
    for one in drawn(Exploration(last(2), 5.0), known(), new, k=500, draws=50):
        cold = one.rows[one.cold]
        assert len(cold) == 400
        assert set(cold[:100].tolist()) == set(range(100, 200))
        assert cold[100:].tolist() == list(range(200, 500))


def test_without_places_or_new_items_nothing_changes() -> None:
    old, new = known(), listed([100], [5.0], cold=True)
    assert explored(old, new, Exploration(last(0), 1.0), "a", 10) is old
    assert explored(old, listed([], []), Exploration(last(3), 1.0), "a", 10) is old
