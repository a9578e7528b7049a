"""Sparse vectors of all items: put together by item and as a whole, from memory or from files, without zeros."""

import numpy as np
import pytest
from mapped import is_mapped
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_sparse

from molar_retrieval.models import vectors
from molar_retrieval.models.vectors import ItemItemVectors
from molar_retrieval.workspace.tensors import zeros_outside

N = 30


def matrices():
    return [random_sparse(N, N, 0.3, "csr", np.float32, np.random.default_rng(seed)) for seed in (0, 1)]


@pytest.mark.parametrize("numbers", [1, 40, 1000])
def test_items_have_their_numbers_by_dimension_however_many_are_turned_at_a_time(numbers, monkeypatch):
    monkeypatch.setattr(vectors, "_NUMBERS", numbers)
    one, other = matrices()
    neighbors = ItemItemVectors.of([(one, 0.5), (other, 3.0)], N)
    expected = np.concatenate([0.5 * one.toarray(), np.float32(3) * other.toarray()])
    blocks = list(neighbors.by_item())
    assert (len(blocks) == 1) is (numbers == 1000)
    assert all(block.has_sorted_indices for block in blocks)
    assert np.array_equal(np.concatenate([block.toarray() for block in blocks]), expected.T)
    assert np.array_equal(neighbors.whole().toarray(), expected)
    assert np.array_equal(neighbors.whole(slice(5, 9)).toarray(), expected[:, 5:9])
    assert neighbors.dim == 2 * N


def test_what_is_nothing_is_left_out_and_rows_are_put_in_order_in_a_copy():
    tiny = np.float32(1e-30)
    untidy = csr_matrix((np.float32([2, tiny, 0, 1]), np.int32([3, 1, 0, 2]), np.int32([0, 3, 4, 4, 4])), shape=(4, 4))
    found = ItemItemVectors.of([(untidy, 1e-20)], 4).whole()
    assert found.indices.tolist() == [3, 2]
    assert found.data == pytest.approx([2e-20, 1e-20])
    swapped = csr_matrix((np.float32([2, 1]), np.int32([3, 0]), np.int32([0, 2, 2, 2, 2])), shape=(4, 4))
    assert ItemItemVectors.of([(swapped, 1.0)], 4).whole().indices.tolist() == [0, 3]
    assert untidy.nnz == 4
    assert swapped.indices.tolist() == [3, 0]


def test_without_partners_vectors_have_no_numbers():
    nothing = ItemItemVectors.of([], N)
    assert nothing.dim == 0
    assert nothing.whole().shape == (0, N)
    assert [block.shape for block in nothing.by_item()] == [(N, 0)]


def test_zeros_lie_in_a_file_without_a_name(tmp_path):
    found = zeros_outside(5, np.int32, tmp_path)
    assert is_mapped(found)
    found[2] = 7
    assert found.tolist() == [0, 0, 7, 0, 0]
    assert not list(tmp_path.iterdir())
