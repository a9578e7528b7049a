"""What a history looks like, against a loop."""

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, log_of

from molar_retrieval.models.content_knn import GRID, mean_direction


@pytest.fixture(scope="module")
def features():
    vectors = np.random.default_rng(0).normal(size=(N_ITEMS, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[3] = 0
    return vectors


@pytest.mark.parametrize("setting", GRID)
def test_is_the_direction_of_the_decayed_mean(features, setting):
    histories = [[9, 4, 6, 4], [3], [], [3, 8], list(range(N_ITEMS)) * 12]
    got = mean_direction(log_of(histories), features, **setting)
    assert got.dtype == np.float32
    for user, history in enumerate(histories):
        latest = history[::-1][: setting["last"]]
        taste = sum((setting["decay"] ** age * features[item] for age, item in enumerate(latest)), np.zeros(5))
        length = np.linalg.norm(taste)
        np.testing.assert_allclose(got[user], taste / length if length else taste, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), [1, 0, 0, setting["last"] > 1 or 1, 1], rtol=1e-5)


def test_no_histories(features):
    assert mean_direction(log_of([]), features, 1.0, 3).shape == (0, 5)
