"""Counts in blocks of items are those of all pairs at once, bit by bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eval_model_tasks import log_of
from mapped import is_mapped
from scipy.sparse import csr_matrix, hstack

from molar_indexes.rebuild import support
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models import ease, item_item
from molar_retrieval.models.base import (
    COOCCURRENCE,
    COUNTS,
    EASE,
    EASE_MODEL,
    ITEM_KNN,
    ITEM_KNN_MODEL,
    NEIGHBOURS,
    REGRESSION,
    REGRESSIONS,
    SEQUENTIAL,
    Setting,
    fit_count_models,
    item_neighbours,
    order,
    sequence,
)
from molar_retrieval.models.carry_over import recount
from molar_retrieval.models.item_item import ItemItemWeights, many_pairs, strongest
from molar_retrieval.models.k_anonymity import KAnonymity
from molar_retrieval.models.sequential import TransitionsInBlocks, count_transitions, transitions
from molar_retrieval.models.vectors import ItemItemVectors

ITEMS = 40
SETTINGS = [{"model": COOCCURRENCE, **one} for one in COUNTS] + [{"model": REGRESSION, **one} for one in REGRESSIONS]


def made_up(weighted: bool) -> Interactions:
    random = np.random.default_rng(3)
    histories = [(ITEMS * random.random(n) ** 2).astype(int).tolist() for n in random.integers(0, 25, 120)]
    log = log_of(histories, ITEMS, np.sort(random.integers(0, 9_000_000, sum(map(len, histories)))))
    some = random.random(len(log)).astype(np.float32)
    return replace(log, strength=some, weight=some) if weighted else log


@pytest.fixture(params=[False, True], ids=["plain", "weighted"])
def log(request: pytest.FixtureRequest) -> Interactions:
    return made_up(request.param)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a hundred pairs are too many, a block has some 500."""
    monkeypatch.setattr(item_item, "MOST_PAIRS", 100)
    monkeypatch.setattr(item_item, "PAIRS_OF_BLOCK", 500)


def same(one: csr_matrix, other: csr_matrix) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and (one != other).nnz == 0


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("fade", [0.0, 0.3])
@pytest.mark.parametrize("window", [1, 7, 60])
def test_columns_are_those_of_all_followers(log: Interactions, window: int, fade: float) -> None:
    whole, blocks = transitions(log, window, 0.83, fade, exact=True), TransitionsInBlocks(log, window, 0.83, fade)
    assert len(blocks.blocks) > 5 or window == 1
    assert same(csr_matrix(hstack([blocks.columns(block) for block in blocks.blocks])), whole)
    both = hstack([blocks.columns(block, ordered=False) for block in blocks.blocks])
    assert same(csr_matrix(both), csr_matrix(whole + whole.T))
    items = np.array([0, 3, 4, 17, 38])
    assert np.array_equal(blocks.between(items), whole[items][:, items].toarray().astype(np.float32))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("least", [1, 3])
@pytest.mark.parametrize(
    "setting",
    [{"model": COOCCURRENCE, **one} for one in COUNTS] + [{"model": REGRESSION, **one} for one in REGRESSIONS],
)
def test_the_sequence_expert_is_the_same(
    log: Interactions, setting: Setting, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = order(setting)
    blocks = count_transitions(log, *counted)
    assert isinstance(blocks, TransitionsInBlocks)
    few = KAnonymity.of(log, least)
    assert few is None or isinstance(few.pairs, item_item.InteractionMatrix)
    got = sequence(log, blocks, setting, 6, few)
    monkeypatch.setattr(item_item, "MOST_PAIRS", 10_000)
    assert not isinstance(count_transitions(log, *counted), TransitionsInBlocks)
    every = KAnonymity.of(log, least)
    assert every is None or isinstance(every.pairs, csr_matrix)
    sums = transitions(log, *counted, exact=True)
    want = sequence(log, sums if setting["model"] == COOCCURRENCE else sums.astype(np.float32), setting, 6, every)
    assert same(got.weights, want.weights)
    assert (got.memory, got.last, got.fade) == (want.memory, want.last, want.fade)


@pytest.mark.usefixtures("small")
def test_pairs_of_few_people_are_the_same(log: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = KAnonymity.of(log, 3)
    monkeypatch.setattr(item_item, "MOST_PAIRS", 10_000)
    whole = KAnonymity.of(log, 3)
    assert blocks is not None
    assert whole is not None
    assert blocks.share == whole.share
    weights = csr_matrix(np.random.default_rng(0).random((ITEMS, ITEMS)).astype(np.float32))
    assert same(blocks.taken_from(weights), whole.taken_from(weights))
    columns = np.arange(0, ITEMS, 3)
    dense = weights.toarray()[np.ix_(columns, columns)]
    assert np.array_equal(blocks.cleared(dense.copy(), columns), whole.cleared(dense.copy(), columns))
    assert not np.array_equal(whole.cleared(dense.copy(), columns), dense)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("weighting", ["cosine", "tfidf", "bm25"])
def test_item_neighbours_are_the_same(weighting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = made_up(True)  # similarities of a weighted log are never equal
    got = ease.item_knn(log, weighting, 20, 5)
    monkeypatch.setattr(item_item, "MOST_PAIRS", 10_000)
    assert same(got, ease.item_knn(log, weighting, 20, 5))


def test_of_equal_neighbours_the_first_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_item, "MOST_PAIRS", 30)
    log = log_of([[0, item] for item in range(1, ITEMS)], ITEMS)
    got = ease.item_knn(log, "cosine", 20, 4)
    assert got[0].indices.tolist() == [0, 1, 2, 3]
    assert same(strongest(got, 2), strongest(got.toarray(), 2))


@pytest.mark.usefixtures("small")
def test_an_update_of_a_large_log_counts_all_of_it(log: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(ITEMS)
    settings: list[dict[str, Setting]] = [
        {SEQUENTIAL: {"model": COOCCURRENCE, **COUNTS[2]}, EASE_MODEL: {"model": EASE, "regularisation": 9.0}},
        {SEQUENTIAL: {"model": REGRESSION, **REGRESSIONS[0]}, ITEM_KNN_MODEL: {"model": ITEM_KNN, **NEIGHBOURS}},
    ]
    for chosen in settings:
        former = [ItemItemWeights(name, csr_matrix((ITEMS, ITEMS), dtype=np.float32)) for name in chosen]
        monkeypatch.setattr(item_item, "MOST_PAIRS", 10_000)
        whole = recount(log, chosen, 6, former, rows)
        monkeypatch.setattr(item_item, "MOST_PAIRS", 100)
        got = recount(log, chosen, 6, former, rows)
        for one, other in zip(got.item_item, whole.item_item, strict=True):
            if chosen[one.name]["model"] == COOCCURRENCE:
                assert same(one.weights, other.weights)
            else:  # of equal neighbours others are kept; one matrix is inverted in another way, or rounded before
                np.testing.assert_allclose(abs(one.weights).sum(0), abs(other.weights).sum(0), rtol=2e-3, atol=1e-5)
        kept = recount(log, chosen, 6, got.item_item, rows, unchanged=True)
        assert all(same(one.weights, other.weights) for one, other in zip(kept.item_item, got.item_item, strict=True))


@pytest.mark.usefixtures("small")
def test_what_is_counted_in_blocks_is_said(log: Interactions) -> None:
    counts, report = fit_count_models(log, lambda scoring: 0.0, 6, (SEQUENTIAL, EASE_MODEL))
    assert all("in blocks of items" in report[name]["note"] for name in (SEQUENTIAL, EASE_MODEL))
    assert all(expert.weights.nnz for expert in counts if isinstance(expert, ItemItemWeights))
    want = item_neighbours(log, NEIGHBOURS, 6)
    assert want.weights.nnz


def test_pairs_are_estimated_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of([[0, 1, 2, 3, 4], [5, 6], [7], []], 20)
    for window, pairs in ((1, 5), (2, 8), (None, 11)):
        for most in (pairs - 1, pairs):
            monkeypatch.setattr(item_item, "MOST_PAIRS", most)
            assert many_pairs(log, window) is (most < pairs)
    monkeypatch.setattr(item_item, "MOST_PAIRS", 8)
    assert not many_pairs(log_of([[0, 1] * 50], 2))  # two items have no more than four pairs


def test_how_many_had_both_is_counted_in_blocks(
    log: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    matrices = [csr_matrix(np.where(random.random((ITEMS, ITEMS)) < 0.2, 1, 0).astype(np.float32)) for _ in range(3)]
    neighbors = ItemItemVectors.of([(matrix, 2.0) for matrix in matrices], ITEMS)
    whole = support(log, neighbors)
    had = item_item.InteractionMatrix.of(log).of_users.toarray()
    dimensions, items = neighbors.whole().nonzero()
    assert whole.tolist() == (had.T @ had)[items, dimensions % ITEMS].tolist()
    monkeypatch.setattr(item_item, "PAIRS_OF_BLOCK", 500)
    assert len(item_item.InteractionMatrix.of(log).blocks) > 5
    assert support(log, neighbors).tolist() == whole.tolist()
    monkeypatch.setattr("molar_indexes.rebuild._MANY", 10)
    outside = support(log, neighbors, folder=tmp_path)
    assert is_mapped(outside)
    assert outside.tolist() == whole.tolist()
    assert not list(tmp_path.iterdir())
