"""Known items and newcomers in one list: against the rule in exact fractions, and against the rule for all at once."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molar_retrieval.ranking import candidates as subject
from molar_retrieval.ranking.candidates import lifted
from molar_retrieval.ranking.objectives import TOP, Slots, last
from molar_retrieval.rng import generator


class ScoredItem(NamedTuple):
    newcomer: bool
    place: int
    score: float
    lift: float


def merge(known: list[float], newcomers: list[float], slots: Slots) -> list[ScoredItem]:
    """Place by place."""
    order, lift = subject.merge(np.array(known), np.array(newcomers), slots)
    given_scores, count = [*known, *newcomers], len(known)
    return [
        ScoredItem(n >= count, n - count * (n >= count), given_scores[n] + lift[n], lift[n]) for n in order.tolist()
    ]


scores = st.lists(st.floats(-50, 50, width=32), max_size=25).map(lambda values: sorted(values, reverse=True))


SLOTS = [*map(last, range(11)), (3, 6, 10), (2, 10), (4, 5, 9, 10)]


def oracle(known: list[float], newcomers: list[float], slots: Slots) -> list[tuple[bool, int]]:
    """The first ten place by place; behind them newcomers by their distance from the last one that has a place."""
    if not known or not newcomers:
        return [(False, n) for n in range(len(known))] + [(True, n) for n in range(len(newcomers))]
    first = min(len(slots), len(newcomers))
    if len(known) <= 10 - first:
        first = 0
    new_places = slots[len(slots) - first :]
    head: list[tuple[bool, int]] = []
    for place in range(1, 11):
        new = place in new_places
        number = sum(kind == new for kind, _ in head)
        if new or number < len(known):
            head.append((new, number))
    before = sum(not kind for kind, _ in head)
    old, late = [Fraction(x) for x in known], [Fraction(x) for x in newcomers]
    level, anchor = old[before - 1], late[max(0, first - 1)]
    if first:
        alike = sum(1 for n in range(first) if all(place in new_places for place in range(new_places[n], 11)))
        level -= (level - old[before]) * Fraction(alike, alike + 1)
    rest = [(-old[n], False, n) for n in range(before, len(old))]
    rest += [(-(level + late[n] - anchor), True, n) for n in range(first, len(late))]
    return head + [(kind, n) for _, kind, n in sorted(rest)]


@pytest.mark.parametrize("slots", SLOTS, ids=str)
@given(scores, scores)
def test_the_order_is_that_of_the_rule(slots: Slots, known: list[float], newcomers: list[float]) -> None:
    # Multiples of 2520 and of a power of two, so that floating point divides and adds them as fractions do.
    known, newcomers = ([round(x) * 2520.0 for x in values] for values in (known, newcomers))
    assert [(p.newcomer, p.place) for p in merge(known, newcomers, slots)] == oracle(known, newcomers, slots)


@given(scores, scores, st.sampled_from(SLOTS))
def test_lists_keep_their_order_and_scores_fall(known: list[float], newcomers: list[float], slots: Slots) -> None:
    merged = merge(known, newcomers, slots)
    for kind, given_scores in ((False, known), (True, newcomers)):
        own = [p for p in merged if p.newcomer == kind]
        assert [p.place for p in own] == list(range(len(given_scores)))
        assert [p.score - p.lift for p in own] == pytest.approx(given_scores, abs=1e-9)
    falling = sorted((p.score for p in merged), reverse=True)
    assert [p.score for p in merged] == pytest.approx(falling, abs=1e-9)  # of equal ones the sum may round
    assert all(p.lift == 0 and p.score == known[p.place] for p in merged if not p.newcomer)


@pytest.mark.parametrize("slots", SLOTS, ids=str)
def test_newcomers_get_their_places(slots: Slots) -> None:
    rng = generator(0, "newcomers")
    for scale in (0.01, 1.0, 100.0):
        known = sorted(rng.normal(size=40).tolist(), reverse=True)
        newcomers = sorted((scale * rng.normal(size=30)).tolist(), reverse=True)
        first = [p.newcomer for p in merge(known, newcomers, slots)[:TOP]]
        assert [place for place in range(1, 11) if first[place - 1]] == list(slots)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_newcomers_than_places_are_all_at_the_top(n: int) -> None:
    merged = merge([float(x) for x in range(30, 0, -1)], [0.1, -5.0, -9.0][:n], last(4))
    assert sum(p.newcomer for p in merged[:TOP]) == n


def test_without_places_no_newcomer_is_among_the_first_ten_known() -> None:
    known = [10.0 - 0.1 * n for n in range(30)]
    merged = merge(known, [0.1 + 0.2, 0.3, -4.0], ())
    assert [p.newcomer for p in merged[:11]] == [False] * 10 + [True]


def test_few_known_items_and_none() -> None:
    assert [p.newcomer for p in merge([3.0, 2.0], [9.0, 8.0, 1.0], ())] == [False, False, True, True, True]
    alone = merge([], [9.0, 8.0], last(3))
    assert [(p.score, p.lift) for p in alone] == [(9.0, 0.0), (8.0, 0.0)]
    assert merge([], [], last(3)) == []
    assert [p.score for p in merge([2.0, 1.0], [], last(3))] == [2.0, 1.0]


@pytest.mark.parametrize("slots", [(), last(1), last(3), (2, 7, 10), last(9)], ids=str)
@pytest.mark.parametrize(("n_known", "n_new"), [(60, 20), (5, 20), (60, 1)])
def test_evaluation_lifts_by_the_same_number(slots: Slots, n_known: int, n_new: int) -> None:
    rng = generator(1, "lift", *slots)
    values = rng.normal(size=(1, n_known + n_new)).astype(np.float32)
    newcomer = np.arange(n_known + n_new) >= n_known
    known, new = np.sort(values[0, ~newcomer])[::-1], np.sort(values[0, newcomer])[::-1]
    merged = merge(known.tolist(), new.tolist(), slots)
    together = lifted(values.copy(), newcomer, np.ones_like(values, bool), slots)[0]
    assert [p.score for p in merged] == pytest.approx(np.sort(together)[::-1].tolist(), abs=1e-5)


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.booleans()), max_size=30),
)
def test_a_second_stage_moves_known_items_between_the_newcomers(drawn: list[tuple[float, float, bool]]) -> None:
    scores = np.array(sorted((round(score, 3) for score, _, _ in drawn), reverse=True))
    moved = np.array([round(moved, 3) for _, moved, new in drawn if not new])
    newcomer = np.array([new for _, _, new in drawn], bool)
    added = subject.kept(scores, moved, newcomer)
    after = scores + added
    known = np.flatnonzero(~newcomer)
    assert after[known] == pytest.approx(scores[known] + moved)
    wanted = np.arange(len(scores))
    wanted[known] = known[np.argsort(-after[known], kind="stable")]
    assert (np.diff(after[wanted]) <= 1e-9).all()


def test_newcomers_come_between_and_at_the_ends_go_along() -> None:
    newcomer = np.array([True, False, True, True, False, False, True])
    scores = np.array([9.0, 8.0, 7.9, 7.8, 6.0, 5.0, 4.0])
    after = scores + subject.kept(scores, np.array([0.0, 4.0, 1.0]), newcomer)
    assert after == pytest.approx([11.0, 8.0, 9.3333333, 8.6666667, 10.0, 6.0, 5.0])


@pytest.mark.parametrize("newcomer", [[], [True, True]])
def test_where_there_are_no_known_items_nothing_moves(newcomer: list[bool]) -> None:
    assert (subject.kept(-np.arange(len(newcomer)), np.zeros(0), np.array(newcomer, bool)) == 0).all()
