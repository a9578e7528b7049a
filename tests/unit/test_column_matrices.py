"""Columns of items by items that come in blocks, in memory or in files without a name."""

from pathlib import Path

import numpy as np
import pytest
from mapped import is_mapped
from scipy.sparse import csc_matrix, csr_matrix

from molar_retrieval.models import item_item


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_columns_that_come_in_any_order_make_one_matrix(tmp_path: Path, monkeypatch, outside, whole) -> None:
    monkeypatch.setattr(item_item, "_AT_ONCE", 7)
    random = np.random.default_rng(5)
    matrix = csc_matrix((random.random((30, 30)) * (random.random((30, 30)) < 0.3)).astype(np.float32))
    items = random.permutation(30)[: 30 if whole else 22]
    missing = np.setdiff1d(np.arange(30), items)
    expected = matrix.toarray()
    expected[:, missing] = 0
    folder = tmp_path if outside else None

    def parts(order):
        return ((some, matrix[:, some]) for some in np.array_split(order, 4))

    by_rows = item_item.by_rows(parts(items), 30, folder)
    assert np.array_equal(by_rows.toarray(), expected)
    assert csr_matrix((by_rows.data, by_rows.indices, by_rows.indptr), by_rows.shape).has_sorted_indices
    columns = item_item.side_by_side(parts(np.sort(items)), 30, folder)
    assert np.array_equal(columns.toarray(), expected)
    assert is_mapped(columns.data) == outside
    assert list(tmp_path.iterdir()) == []
