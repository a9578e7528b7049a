"""Composing a list: what each constraint does, alone and together, and that nothing else changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molar_retrieval.ranking.diversity import Cap, Choice, Composition, Mix, Quota, diversify
from molar_retrieval.rng import generator


def falling(count: int) -> np.ndarray:
    return np.linspace(1, 0, count)


def numbers(choices: list[Choice]) -> list[int]:
    return [choice.candidate for choice in choices]


def test_without_constraints_the_order_stays() -> None:
    assert diversify(falling(5), 3, Composition()) == [Choice(0), Choice(1), Choice(2)]
    assert diversify(falling(2), 9, Composition()) == [Choice(0), Choice(1)]
    assert diversify(falling(0), 9, Composition(caps=[Cap("c", [].__getitem__, 1)])) == []


def test_a_cap_holds_back_and_says_for_whom() -> None:
    cap = Cap("max 2 per brand", [["a"], ["a"], ["a"], ["b"], ["a", "b"], [], []].__getitem__, 2)
    found = diversify(falling(7), 5, Composition(caps=[cap]))
    assert numbers(found) == [0, 1, 3, 5, 6]
    assert [choice.causes for choice in found[:2]] == [(), ()]
    assert {choice.causes for choice in found[2:]} == {("max 2 per brand",)}


def test_a_quota_takes_the_last_places_only() -> None:
    fulfils = np.array([False] * 8 + [True, False, True])
    found = diversify(falling(11), 5, Composition(quotas=[Quota("min 2 new", fulfils, 2)]))
    assert numbers(found) == [0, 1, 2, 8, 10]
    assert found[3].causes == ("min 2 new",)
    assert numbers(diversify(falling(11), 5, Composition(quotas=[Quota("q", fulfils, 9)])))[:2] == [8, 10]


def test_two_quotas_share_the_places_that_are_left() -> None:
    left, right = np.arange(12) == 10, np.arange(12) == 11
    found = diversify(falling(12), 4, Composition(quotas=[Quota("l", left, 1), Quota("r", right, 1)]))
    assert numbers(found) == [0, 1, 10, 11]
    both = np.arange(12) >= 10
    wanted = Composition(quotas=[Quota("b", both, 2), Quota("l", left, 1)])
    assert set(numbers(diversify(falling(12), 2, wanted))) == {10, 11}


def test_pins_stand_where_they_were_put_and_count_for_the_rest() -> None:
    cap = Cap("cap", ([["a"]] * 3 + [["b"]] * 4).__getitem__, 2)
    found = diversify(falling(7), 3, Composition(caps=[cap], pins={1: (2, "pin")}))
    assert numbers(found) == [0, 2, 3]  # the pin ignores the cap, the others do not
    assert found[1].causes == ("pin",)
    quota = Quota("q", np.arange(7) == 2, 1)
    assert numbers(diversify(falling(7), 3, Composition(quotas=[quota], pins={2: (2, "")}))) == [0, 1, 2]


def test_diversity_avoids_what_is_alike() -> None:
    vectors = np.array([[1, 0], [1, 0], [0.99, 0.14], [0, 1]], np.float32)
    relevance = np.array([1.0, 0.9, 0.8, 0.3])
    assert numbers(diversify(relevance, 3, Composition(diversity=0.1), vectors)) == [0, 1, 2]
    found = diversify(relevance, 3, Composition(diversity=0.6), vectors)
    assert numbers(found) == [0, 3, 1]
    assert [choice.causes for choice in found] == [(), ("diversity",), ()]


def test_more_diversity_makes_a_list_less_alike() -> None:
    rng = generator(0, "mmr")
    vectors = rng.normal(size=(100, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = np.sort(rng.random(100))[::-1]

    def alike(weight: float) -> float:
        rows = numbers(diversify(relevance, 10, Composition(diversity=weight), vectors))
        return float((vectors[rows] @ vectors[rows].T)[np.triu_indices(10, 1)].mean())

    assert alike(0.0) > alike(0.3) > alike(0.9)


@pytest.mark.parametrize(("count", "width"), [(203, 256), (57, 255), (101, 33)])
def test_what_is_equal_is_passed_over_for_nothing(count: int, width: int) -> None:
    """Nothing varies a list of equals, whatever the last digits of a product of matrices make of their places."""
    for seed in range(20):
        vectors = generator(seed, "alike").normal(size=(2, width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        found = diversify(np.ones(count), 20, Composition(diversity=0.5), vectors[[0, *[1] * (count - 1)]])
        assert [choice.candidate for choice in found] == list(range(20))
        assert not any(choice.causes for choice in found)


def test_calibration_brings_the_list_near_the_history() -> None:
    members = np.array([[1.0, 0.0]] * 20 + [[0.0, 1.0]] * 20)
    mix = Mix(np.array([0.7, 0.3]), members)
    assert numbers(diversify(falling(40), 10, Composition(calibration=0.01, mix=mix))) == list(range(10))
    found = numbers(diversify(falling(40), 10, Composition(calibration=1.0, mix=mix)))
    assert sum(n >= 20 for n in found) == 3


cases = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=30)


@given(cases, st.integers(1, 12), st.integers(1, 3), st.integers(0, 4), st.floats(0, 1), st.data())
def test_what_holds_of_any_list(
    items: list[tuple[str, bool]], k: int, most: int, least: int, weight: float, data: st.DataObject
) -> None:
    count = len(items)
    cap = Cap("cap", [[value] for value, _ in items].__getitem__, most)
    fulfils = np.array([flag for _, flag in items])
    places = data.draw(st.lists(st.integers(0, k - 1), unique=True, max_size=min(2, count)))
    pins = dict(zip(places, data.draw(st.permutations(range(count))), strict=False))
    quotas = [Quota("quota", fulfils, least)] if least else []
    vectors = generator(0, "any", count).normal(size=(count, 3)).astype(np.float32)
    plan = Composition(
        diversity=weight, caps=[cap], quotas=quotas, pins={place: (n, "pin") for place, n in pins.items()}
    )
    found = diversify(falling(count), k, plan, vectors)
    chosen = numbers(found)
    assert len(chosen) == len(set(chosen)) <= min(k, count)
    for place, candidate in pins.items():
        if place < len(chosen):
            assert chosen[place] == candidate
    free = [n for n in chosen if n not in pins.values()]
    pinned = [items[n][0] for n in chosen if n in pins.values()]
    for value in "abc":
        others = sum(items[n][0] == value for n in free)
        assert others == 0 or others + pinned.count(value) <= most
    if len(chosen) < min(k, count):  # only where the cap leaves nothing
        counts = {value: sum(items[n][0] == value for n in chosen) for value in "abc"}
        left = [n for n in range(count) if n not in chosen and n not in pins.values()]
        waiting = [items[n][0] for place, n in pins.items() if len(chosen) <= place < k]
        assert all(counts[items[n][0]] + waiting.count(items[n][0]) >= most for n in left)


def test_diversity_without_vectors_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="vectors"):
        diversify(falling(3), 2, Composition(diversity=0.5))
