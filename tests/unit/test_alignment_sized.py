"""Sizes that follow from the data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ids import IdMap
from molar_retrieval.models.towers.training import sized
from molar_retrieval.workspace.settings import AlignSettings

OPEN = AlignSettings()


def log_of_lengths(lengths):
    total = int(sum(lengths))
    return Interactions(
        IdMap([]),
        IdMap(["i"]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.zeros(total, np.int32),
        np.zeros(total, np.int64),
    )


@given(st.lists(st.integers(0, 400), max_size=60))
def test_a_history_holds_nearly_everybody_whole(lengths):
    history = sized(OPEN, log_of_lengths(lengths)).max_history
    assert history % 8 == 0
    assert 8 <= history <= 200
    real = np.array([n for n in lengths if n > 1])
    if len(real) and history < 200:
        assert np.mean(real <= history) >= 0.95 - 1 / len(real)
    if len(real) and history > 8:
        assert np.quantile(real, 0.95) > history - 8, "not longer than that takes"


@pytest.mark.parametrize(("usual", "history"), [(2, 8), (8, 8), (9, 16), (150, 152), (200, 200), (5000, 200)])
def test_history_is_rounded_up_and_cut(usual, history):
    assert sized(OPEN, log_of_lengths([usual] * 20 + [0, 1, 1])).max_history == history


@pytest.mark.parametrize(("total", "dim"), [(10, 64), (499_999, 64), (500_000, 128), (2_000_000, 128)])
def test_width_grows_with_the_log(total, dim):
    assert sized(OPEN, log_of_lengths([total])).embedding_dim == dim


@pytest.mark.parametrize(
    ("total", "tokens"), [(0, 256), (38_400, 256), (60_000, 400), (480_000, 3200), (5_000_000, 3200)]
)
def test_an_epoch_has_enough_steps(total, tokens):
    found = sized(OPEN, log_of_lengths([total])).batch_tokens
    assert found == tokens
    assert found == 256 or total // found >= 150


def test_what_is_set_stays():
    given_sizes = AlignSettings(embedding_dim=24, max_history=7, batch_tokens=99, epochs=2)
    assert sized(given_sizes, log_of_lengths([600_000, 50])) == given_sizes
    half = sized(AlignSettings(embedding_dim=24), log_of_lengths([30] * 10))
    assert (half.embedding_dim, half.max_history) == (24, 32)


@pytest.mark.parametrize("lengths", [[], [0, 0], [1, 1, 1]])
def test_logs_that_teach_nothing(lengths):
    assert sized(OPEN, log_of_lengths(lengths)).max_history == 8
