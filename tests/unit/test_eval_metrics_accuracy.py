import numpy as np
import pytest

from molar_eval.metrics import ACCURACY, accuracy
from molar_retrieval.errors import SettingsError


def test_by_hand():
    found = accuracy(np.array([1, 3, 10, 11, 0]), np.arange(6), [10])
    assert found["recall@10"].tolist() == found["hit_rate@10"].tolist() == [1, 1, 1, 0, 0]
    assert found["ndcg@10"] == pytest.approx([1, 0.5, 1 / np.log2(11), 0, 0])
    assert found["mrr@10"] == pytest.approx([1, 1 / 3, 0.1, 0, 0])
    assert found["map@10"] == pytest.approx(found["mrr@10"])
    assert found["precision@10"] == pytest.approx([0.1, 0.1, 0.1, 0, 0])


def test_several_targets_by_hand():
    found = accuracy(np.array([4, 0, 2, 9]), np.array([0, 4]), [3, 4])
    assert found["recall@4"] == pytest.approx([2 / 4])
    assert found["precision@3"] == pytest.approx([1 / 3])
    assert found["map@4"] == pytest.approx([(1 / 2 + 2 / 4) / 4])
    ideal = sum(1 / np.log2(1 + rank) for rank in (1, 2, 3, 4))
    assert found["ndcg@4"] == pytest.approx([(1 / np.log2(3) + 1 / np.log2(5)) / ideal])


def test_names_shapes_and_types():
    found = accuracy(np.array([1, 2]), np.array([0, 1, 2]), [5, 1])
    assert list(found) == [f"{name}@{k}" for k in (5, 1) for name in ACCURACY]
    assert all(values.shape == (2,) and values.dtype == np.float32 for values in found.values())


def test_no_targets_and_no_cases():
    assert all(values.tolist() == [0, 1] for values in accuracy(np.array([1]), np.array([0, 0, 1]), [1]).values())
    assert all(len(values) == 0 for values in accuracy(np.zeros(0, np.int64), np.array([0]), [3]).values())


def test_cutoffs():
    with pytest.raises(SettingsError, match="0 is no length"):
        accuracy(np.array([1]), np.array([0, 1]), [10, 0])
