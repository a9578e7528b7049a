"""Evidence is read off the score: amounts add up to it, and nobody is told of pairs that few people had."""

import numpy as np
import pytest

from molar_retrieval.ranking.explanations import (
    ANONYMITY,
    Attributions,
    ContentKNNWeights,
    Origins,
    TakenBefore,
    attributions,
)
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.ranking.item_store import ItemStore, SparseItemIndex
from molar_retrieval.rng import generator

N, F = 12, 6
BLOCKS = {"text": (0, 2), "image": (2, 5), "attributes": (5, 6)}
PARTS = {"content_tower": (0, 3), "content_knn": (3, 9), "popularity": (9, 10)}
SPARSE_PARTS = {"ease": (0, N), "sequential": (N, 2 * N)}
WEIGHTS = {"content_tower": 0.7, "content_knn": 1.9}


class Shop:
    """A table whose content parts are linear in the content, as those of a generation are."""

    def __init__(self, support: int = 99) -> None:
        rng = generator(0, "evidence")
        content = rng.normal(size=(N, F)).astype(np.float32)
        self.content = content / np.linalg.norm(content, axis=1, keepdims=True)
        self.maps = {"content_tower": rng.normal(size=(F, 3)), "content_knn": np.eye(F)}
        dense = np.concatenate([self.content @ self.maps[n] * WEIGHTS[n] for n in WEIGHTS] + [np.ones((N, 1))], axis=1)
        weights = rng.normal(0.5, size=(2 * N, N)) * (rng.random((2 * N, N)) < 0.5)
        dimensions, items = np.nonzero(weights)
        starts = np.concatenate([[0], np.cumsum(np.bincount(dimensions, minlength=2 * N))])
        self.weights = weights
        self.support = np.full((2 * N, N), support)
        self.support[[3, N + 3]] = 1  # of item 3 nothing is told
        neighbors = SparseItemIndex(starts, items, weights[dimensions, items], self.support[dimensions, items])
        nothing = np.zeros((N, 0), np.float32)
        known = np.ones(len(dense), bool)
        self.table = ItemStore(
            dense.astype(np.float32), known, ~known, neighbors, self.content, nothing, nothing, PARTS, SPARSE_PARTS
        )
        self.history = [1, 3, 5]
        self.reading = np.zeros(2 * N)
        self.reading[[1, 3, 5]], self.reading[[N + 1, N + 3, N + 5]] = 0.6, [0.25, 0.5, 1.0]
        self.taste = ContentKNNWeights(0.5, 2)
        mean = 0.5 * self.content[3] + self.content[5]
        self.user = np.concatenate([rng.normal(size=3), mean / np.linalg.norm(mean), [1.0]])

    def gather(self, rows: list[int]) -> list[Attributions]:
        at = np.flatnonzero(self.reading)
        sparse = SparseVector(at.tolist(), self.reading[at].tolist())
        origins = Origins(BLOCKS, self.maps, self.taste)
        return attributions(self.table, origins, self.user.tolist(), sparse, self.history, rows)

    def score(self, row: int, part: str) -> float:
        start, stop = PARTS[part]
        return float(self.table.dense[row, start:stop] @ self.user[start:stop])


def test_company_is_what_the_counting_experts_add_for_each_item() -> None:
    shop = Shop()
    for row, evidence in zip([0, 7, 9], shop.gather([0, 7, 9]), strict=True):
        amounts = {item: sum(shop.reading[d] * shop.weights[d, row] for d in (item, N + item)) for item in (1, 5)}
        wanted = sorted(((item, a) for item, a in amounts.items() if a > 0), key=lambda pair: -pair[1])
        assert [item for item, _ in evidence.together] == [item for item, _ in wanted]
        assert [a for _, a in evidence.together] == pytest.approx([a for _, a in wanted], rel=1e-6)


@pytest.mark.parametrize("support", [ANONYMITY - 1, ANONYMITY])
def test_pairs_that_too_few_people_had_are_not_told(support: int) -> None:
    found = Shop(support).gather(list(range(N)))
    assert any(evidence.together for evidence in found) == (support == ANONYMITY)
    assert not any(item == 3 for evidence in found for item, _ in evidence.together)


def test_sources_add_up_to_the_content_parts() -> None:
    shop = Shop()
    for row, evidence in zip(range(N), shop.gather(list(range(N))), strict=True):
        total = shop.score(row, "content_tower") + shop.score(row, "content_knn")
        assert list(evidence.sources) == list(BLOCKS)
        assert sum(evidence.sources.values()) == pytest.approx(total, abs=1e-5)


def test_sources_of_newcomers_add_up_by_their_own_map() -> None:
    shop, (start, stop) = Shop(), PARTS["content_knn"]
    shop.table.cold[[2, 7]] = True
    theirs = generator(1, "evidence").normal(size=(F, F))
    shop.table.dense[[2, 7], start:stop] = 0.6 * shop.content[[2, 7]] @ theirs
    shop.maps["cold_start content_knn"] = theirs
    for row, evidence in zip(range(N), shop.gather(list(range(N))), strict=True):
        total = shop.score(row, "content_tower") + shop.score(row, "content_knn")
        assert sum(evidence.sources.values()) == pytest.approx(total, abs=1e-5)


def test_a_source_is_what_the_score_loses_without_it() -> None:
    shop = Shop()
    evidence = shop.gather([8])[0]
    for name, (start, stop) in BLOCKS.items():
        without = shop.content[8].copy()
        without[start:stop] = 0
        left = sum(without @ shop.maps[n] * WEIGHTS[n] @ shop.user[slice(*PARTS[n])] for n in WEIGHTS)
        whole = shop.score(8, "content_tower") + shop.score(8, "content_knn")
        assert evidence.sources[name] == pytest.approx(whole - left, abs=1e-5)


def test_likeness_is_shared_out_among_the_last_items() -> None:
    shop = Shop()
    for row, evidence in zip(range(N), shop.gather(list(range(N))), strict=True):
        assert {item for item, _ in evidence.alike} <= {3, 5} - {row}, "of what is like itself nothing is said"
        likeness = shop.content[[3, 5]] @ shop.content[row] * [0.5, 1.0]
        if shop.score(row, "content_knn") <= 0:
            assert evidence.alike == []
        elif (likeness > 0).all() and row not in (3, 5):
            assert sum(amount for _, amount in evidence.alike) == pytest.approx(
                shop.score(row, "content_knn"), rel=1e-5
            )
            assert evidence.alike[0][0] == (3, 5)[int(likeness.argmax())]


def test_nothing_known_is_nothing_told() -> None:
    shop = Shop()
    found = attributions(shop.table, Origins(), shop.user.tolist(), SparseVector([], []), [], [0, 1])
    assert [(e.together, e.alike, e.sources, e.history) for e in found] == [([], [], {}, [])] * 2


def test_how_often_somebody_took_an_item_and_in_which_distance() -> None:
    shop, day = Shop(), 86_400
    history, times = [1, 3, 1, 1], [day, 2 * day, 11 * day, 11 * day + 9]
    found = attributions(shop.table, Origins(), shop.user.tolist(), SparseVector([], []), history, [0, 1, 3], times)
    assert [evidence.taken for evidence in found] == [None, TakenBefore(2, 10.0), TakenBefore(1, None)]
    assert shop.gather([1])[0].taken is None, "nobody knows when"


def test_history_joins_both_kinds() -> None:
    evidence = Attributions([(4, 2.0), (6, 1.0)], [(6, 1.5), (9, 0.1), (2, 0.05)], {})
    assert evidence.history == [(6, 2.5), (4, 2.0), (9, 0.1)]
