"""Partners: truncation against sorting, reading and scoring against loops, and the way to disk and back."""

import numpy as np
import pytest
from eval_model_tasks import log_of
from mapped import is_mapped
from safetensors.numpy import load_file, save_file
from scipy.sparse import csc_matrix, csr_matrix

from molar_retrieval.models import item_item
from molar_retrieval.models.item_item import ItemItemWeights, strongest

HISTORIES = [[0, 4, 4, 2], [], [5], [1, 2, 3, 4, 5, 0]]


def random_weights():
    random = np.random.default_rng(5)
    dense = random.normal(size=(600, 600)) * (random.random((600, 600)) < 0.2)
    dense[:, 7] = -np.abs(dense[:, 7])
    dense[:, 8] = 0
    dense[:, 9] = random.integers(0, 3, 600)  # mostly ties
    return dense.astype(np.float32)


@pytest.mark.parametrize("form", [np.asarray, csr_matrix, csc_matrix])
@pytest.mark.parametrize("count", [1, 13, 10_000])
def test_strongest_keeps_the_first_of_the_largest_of_each_column(form, count, monkeypatch):
    monkeypatch.setattr(item_item, "_CELLS", 1000)  # some columns at a time
    dense = random_weights()
    got = strongest(form(dense), count)
    expected = np.zeros_like(dense)
    for column in range(dense.shape[1]):
        by_weight = sorted(range(dense.shape[0]), key=lambda row: (-abs(dense[row, column]), row))
        for row in by_weight[:count]:
            expected[row, column] = dense[row, column]
    assert np.array_equal(got.toarray(), expected)
    assert (got.data != 0).all()
    assert got.format == "csr"
    assert got.has_sorted_indices
    assert np.bincount(got.indices, minlength=600).max() <= count


def test_strongest_leaves_its_argument_alone_and_takes_other_shapes():
    dense = random_weights()[:7, :30]
    sparse = csr_matrix(dense)
    kept = sparse.copy()
    assert strongest(sparse, 2).shape == strongest(dense, 2).shape == (7, 30)
    assert (sparse != kept).nnz == 0
    assert strongest(csr_matrix((0, 0), dtype=np.float32), 2).shape == (0, 0)
    assert strongest(csr_matrix((4, 4), dtype=np.float32), 2).nnz == 0


def test_a_history_is_read_as_a_set_or_with_a_memory():
    weights = csr_matrix(np.random.default_rng(2).random((6, 6)).astype(np.float32))
    log = log_of(HISTORIES, 6)
    as_set, fading = ItemItemWeights("ease", weights), ItemItemWeights("sequential", weights, 0.5, 3)
    for user, history in enumerate(HISTORIES):
        once = sum((weights.toarray()[item] for item in set(history)), np.zeros(6))
        faded = sum((0.5**age * weights.toarray()[item] for age, item in enumerate(history[:-4:-1])), np.zeros(6))
        np.testing.assert_allclose(as_set.scores(log)[user], once / max(1, len(set(history))) ** 0.5, rtol=1e-5)
        np.testing.assert_allclose(fading.scores(log)[user], faded, rtol=1e-6)
    assert as_set.read(log).sum() == pytest.approx(sum(len(set(history)) ** 0.5 for history in HISTORIES))
    for neighbors in (as_set, fading):
        assert neighbors.scores(log).dtype == np.float32
        assert neighbors.scores(log_of([], 6)).shape == (0, 6)


@pytest.mark.parametrize("memory", [(), (0.7, 39), (0.7, 39, 0.3)])
def test_on_disk_and_back(tmp_path, memory):
    neighbors = ItemItemWeights("one", strongest(random_weights(), 5), *memory)
    tensors = {"other": np.zeros(1), **neighbors.to_tensors("item_item.one.")}
    kinds = {name.removeprefix("item_item.one."): array.dtype for name, array in tensors.items() if name != "other"}
    assert kinds == {"data": np.float32, "indices": np.int32, "indptr": np.int64, "memory": np.float64}
    save_file(tensors, tmp_path / "model.safetensors")
    again = ItemItemWeights.from_tensors("one", load_file(tmp_path / "model.safetensors"), "item_item.one.")
    assert (again.name, again.memory, again.last, again.fade) == (
        "one",
        neighbors.memory,
        neighbors.last,
        neighbors.fade,
    )
    assert (again.weights != neighbors.weights).nnz == 0
    assert again.weights.shape == (600, 600)
    log = log_of([[3, 599, 3], []], 600)
    assert np.array_equal(again.scores(log), neighbors.scores(log))


def test_many_weights_are_mapped_from_files_that_have_no_name(tmp_path, monkeypatch):
    expert = ItemItemWeights("sequential", csr_matrix(random_weights()), 0.8, 5, 0.3)
    assert expert.outside(tmp_path) is expert
    monkeypatch.setattr(item_item, "_MANY", 10)
    mapped = expert.outside(tmp_path)
    assert is_mapped(mapped.weights.data)
    assert (mapped.weights != expert.weights).nnz == 0
    log = log_of(HISTORIES, 600)
    assert np.array_equal(mapped.scores(log), expert.scores(log))
    assert list(tmp_path.iterdir()) == []
