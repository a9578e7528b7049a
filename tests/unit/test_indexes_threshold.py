"""The threshold algorithm: right for any lists, and frugal."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molar_indexes import threshold
from molar_indexes.threshold import best_sums
from molar_retrieval.rng import generator


@dataclass
class Listed:
    """A ranking in memory that counts what is asked of it; equal addends come in an order of their own."""

    addends: dict[int, float]
    absent: float
    depths: list[int] = field(default_factory=list)
    looked_up: int = 0

    def best(self, n: int) -> list[tuple[int, float]]:
        self.depths.append(n)
        return sorted(self.addends.items(), key=lambda pair: (-pair[1], -pair[0]))[:n]

    def of(self, rows: Iterable[int]) -> dict[int, float]:
        wanted = list(rows)
        self.looked_up += len(wanted)
        return {row: self.addends[row] for row in wanted if row in self.addends}


def oracle(rankings: list[Listed], k: int) -> list[tuple[int, float]]:
    rows = set().union(*(r.addends for r in rankings))
    sums = {row: sum(r.addends.get(row, r.absent) for r in rankings) for row in rows}
    found = [pair for pair in sums.items() if pair[1] > -inf]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:k]


# Few distinct values, so that equal sums abound.
dense = st.dictionaries(st.integers(0, 60), st.integers(-4, 4).map(float), max_size=50)
weights = st.dictionaries(st.integers(0, 60), st.integers(-3, 5).map(float), max_size=50)


@given(dense, st.lists(weights, min_size=1, max_size=3), st.integers(1, 70), st.integers(1, 20))
def test_sums_are_those_of_a_full_scan(
    first: dict[int, float], others: list[dict[int, float]], k: int, depth: int
) -> None:
    rankings = [Listed(first, -inf), *(Listed(other, 0.0) for other in others)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threshold, "FIRST_DEPTH", depth)
        assert best_sums(rankings, k, 61) == oracle(rankings, k)


def made(n: int, kinship: float) -> list[Listed]:
    rng = generator(0, "threshold", kinship)
    base = rng.normal(size=n)
    other = abs(kinship * base + (1 - kinship) * rng.normal(size=n))
    return [Listed(dict(enumerate(base.tolist())), -inf), Listed(dict(enumerate(other.tolist())), 0.0)]


def test_lists_that_agree_are_read_no_further() -> None:
    rankings = made(20_000, 1.0)
    assert best_sums(rankings, 10, 20_000) == oracle(rankings, 10)
    assert [r.depths for r in rankings] == [[threshold.FIRST_DEPTH]] * 2


def test_unrelated_lists_are_read_further_and_hopeless_items_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold, "FIRST_DEPTH", 16)
    rankings = made(20_000, 0.0)
    assert best_sums(rankings, 10, 20_000) == oracle(rankings, 10)
    for ranking in rankings:
        assert ranking.depths == [40, 160, 640][: len(ranking.depths)]
        assert len(ranking.depths) > 1
        assert ranking.looked_up < sum(ranking.depths) / 2


def test_lists_that_contradict_each_other_are_read_past_the_middle() -> None:
    first = Listed({row: float(row % 97) for row in range(3000)}, -inf)
    other = Listed({row: 100.0 - addend for row, addend in first.addends.items()}, 0.0)
    assert best_sums([first, other], 10, 3000) == [(row, 100.0) for row in range(10)]
    assert first.depths == [128, 512, 2048]


def test_a_short_sparse_list_needs_no_look_up() -> None:
    rankings = [made(5000, 0.0)[0], Listed({7: 0.5, 4000: 9.0}, 0.0)]
    assert best_sums(rankings, 10, 5000) == oracle(rankings, 10)
    assert rankings[1].looked_up == 0
    assert rankings[0].looked_up <= 2
