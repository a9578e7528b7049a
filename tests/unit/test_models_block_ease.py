"""EASE in blocks against EASE as one matrix, and what its blocks are made of."""

from dataclasses import replace

import numpy as np
import pytest
from eval_model_tasks import log_of, walks

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models import item_item as counting
from molar_retrieval.models.base import BLOCK_EASE, EASE_MODEL
from molar_retrieval.models.carry_over import recount
from molar_retrieval.models.ease import OWN, BlockEASE, EASECounts, neighbourhood
from molar_retrieval.models.item_item import InteractionMatrix, ItemItemWeights, binary, ranges, strongest


@pytest.fixture(scope="module")
def log() -> Interactions:
    return log_of(walks(users=150))


@pytest.fixture(scope="module")
def taken(log: Interactions) -> InteractionMatrix:
    return InteractionMatrix.of(log)


def whole(log: Interactions, regularisation: float, neighbors: int) -> np.ndarray:
    counts = EASECounts.of(log)
    weights = np.zeros((log.n_items,) * 2, np.float32)
    weights[np.ix_(counts.columns, counts.columns)] = counts.weights(regularisation)
    return strongest(weights, neighbors).toarray()


def test_over_all_items_it_is_the_whole(log: Interactions, taken: InteractionMatrix) -> None:
    blocks = BlockEASE.of(taken, 1000)
    got = blocks.weights(7.0, log.n_items)
    assert got.shape == (log.n_items,) * 2
    np.testing.assert_allclose(got.toarray(), whole(log, 7.0, log.n_items), rtol=1e-3, atol=1e-5)
    few = blocks.weights(7.0, 4)
    assert np.bincount(few.indices).max() == 4
    np.testing.assert_allclose(few.toarray(), whole(log, 7.0, 4), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("regularisation", [1.0, 100.0])
def test_a_column_is_the_regression_on_its_block(
    log: Interactions, taken: InteractionMatrix, regularisation: float
) -> None:
    items = np.array([3, 11])
    block = neighbourhood(taken.together(items), items, taken.counts, regularisation, 9)
    assert len(block) == 9
    assert {*items} <= {*block}
    got = BlockEASE(taken, 9, [items]).solved(items, regularisation, 60).toarray()
    dense = binary(log).toarray().astype(np.float64)
    for place, item in enumerate(items):
        others = block[block != item]
        own = dense[:, others]
        ridge = np.linalg.solve(own.T @ own + regularisation * np.eye(8), own.T @ dense[:, item])
        np.testing.assert_allclose(got[others, place], ridge, rtol=1e-3, atol=1e-5)
        assert not np.delete(got[:, place], others).any()


@pytest.mark.parametrize("core", [0, 1, 9])
def test_where_pairs_are_counted_makes_no_difference(
    log: Interactions, taken: InteractionMatrix, core: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "CORE", core)
    other = InteractionMatrix.of(log)
    items = np.array([0, 4, 5, 17, 20, 27])
    dense = binary(log).toarray()[:, items]
    assert np.array_equal(other.among(items), dense.T @ dense)
    assert (BlockEASE.of(other, 2 * OWN).weights(5, 6) != BlockEASE.of(taken, 2 * OWN).weights(5, 6)).nnz == 0


def test_an_item_takes_its_best_neighbours_and_the_items_take_turns() -> None:
    together = InteractionMatrix.of(log_of([[0, 1]] * 3 + [[0, 2]] * 2 + [[0, 3], [4, 5]] + [[4, 6]] * 4, 8)).together(
        np.array([0, 4])
    )
    counts = np.full(8, 10)
    found = [neighbourhood(together, np.array([0, 4]), counts, 1.0, most).tolist() for most in (2, 3, 4, 5, 7)]
    assert found == [[0, 4], [0, 1, 4], [0, 1, 4, 6], [0, 1, 2, 4, 6], [0, 1, 2, 3, 4, 5, 6]]


def test_each_item_that_anybody_took_is_in_one_group_with_what_it_is_like(
    taken: InteractionMatrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = BlockEASE.of(taken, 3 * OWN).groups
    assert sorted(np.concatenate(groups).tolist()) == np.flatnonzero(taken.counts).tolist()
    assert {len(items) for items in groups} <= {1, 2, 3}
    pairs = InteractionMatrix.of(log_of([[0, 3], [1, 4], [2, 5]] * 9 + [[0, 1, 2]], 7))
    assert [items.tolist() for items in BlockEASE.of(pairs, 2 * OWN).groups] == [[0, 3], [1, 4], [2, 5]]
    monkeypatch.setattr(InteractionMatrix, "blocks", [slice(item, item + 1) for item in range(7)])
    assert [items.tolist() for items in BlockEASE.of(pairs, 2 * OWN).groups] == [[0, 3], [1, 4], [2, 5]]


def test_pairs_of_few_people_have_no_weight(taken: InteractionMatrix) -> None:
    blocks = BlockEASE.of(taken, 1000)
    had = taken.together(slice(0, 60)).toarray()
    without = np.where((had > 0) & (had < 3), 0, blocks.weights(2.0, 60).toarray())
    assert np.array_equal(blocks.weights(2.0, 60, least=3).toarray(), without)


def test_a_log_without_pairs_and_one_without_anything() -> None:
    for histories in ([[1], [2]], []):
        empty = InteractionMatrix.of(log_of(histories, 4))
        assert BlockEASE.of(empty, 1000).weights(1.0, 3).nnz == 0


def test_ranges_are_of_about_the_same_size_and_have_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "PAIRS_OF_BLOCK", 10)
    sizes = np.array([0, 0, 5, 0, 900, 3, 3, 3, 3, 3])
    found = ranges(sizes)
    assert [*range(10)] == [item for part in found for item in range(part.start, part.stop)]
    assert all(sizes[part].sum() - sizes[part].max() <= 10 for part in found)
    assert len(found) == 3
    assert ranges(np.zeros(0, np.int64)) == []


def test_users_come_in_any_order(log: Interactions, taken: InteractionMatrix) -> None:
    again = InteractionMatrix.of(replace(log.of_users(np.arange(log.n_users)[::-1])))
    assert (BlockEASE.of(again, OWN).weights(5, 6) != BlockEASE.of(taken, OWN).weights(5, 6)).nnz == 0


def test_an_update_counts_it_again_with_its_setting(log: Interactions, taken: InteractionMatrix) -> None:
    chosen = {EASE_MODEL: {"model": BLOCK_EASE, "regularisation": 5, "n_neighbors": 2 * OWN}}
    former = [ItemItemWeights(EASE_MODEL, BlockEASE.of(taken, 2 * OWN).weights(9, 6))]
    got = recount(log, chosen, 6, former, np.arange(log.n_items))
    assert (got.item_item[0].weights != BlockEASE.of(taken, 2 * OWN).weights(5, 6)).nnz == 0
    assert not got.left
