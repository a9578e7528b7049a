"""No history whatever changes the sums by more than is promised, rounding included."""

import os

import numpy as np
import pytest
from eval_model_tasks import log_of
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_retrieval.privacy.dp_release import (
    FEW,
    FIRST,
    LATEST,
    MANY,
    TINY,
    latest,
    pair_sums,
    people_sum,
    popularity_sums,
    radius_of,
    transition_sums,
)
from molar_retrieval.privacy.mechanism import GRID, GaussianMechanism
from molar_retrieval.privacy.statistics import PAIRS, PEOPLE, POPULARITY, TRANSITIONS

N_ITEMS = 12
EXAMPLES = int(os.environ.get("MOLAR_TEST_EXAMPLES", 60))
histories = st.lists(st.integers(0, N_ITEMS - 1), max_size=40)
scales = st.sampled_from([0.0, 1e-30, 1.0, 1e20])


def joint(log, features, mechanism, then):
    """All sums as one vector of whole numbers, which has noise with a deviation of GRID on each of them."""
    sums = {
        PEOPLE: people_sum,
        POPULARITY: popularity_sums,
        TRANSITIONS: lambda log, radius: transition_sums(log, features, radius).ravel(),
        PAIRS: lambda log, radius: pair_sums(log, radius).toarray().ravel(),
    }
    released = [*FIRST.items(), *then.items()]
    parts = [sums[name](latest(log), radius_of(share, mechanism)) for name, share in released]
    return np.concatenate(parts).astype(object)


@given(
    st.lists(histories, max_size=4),
    histories,
    scales,
    st.sampled_from([0.1, 1, 4, 30]),
    st.sampled_from([TINY, FEW, MANY]),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_person_more_changes_the_sums_by_one_contribution_at_most(others, own, scale, epsilon, then):
    mechanism = GaussianMechanism.of(epsilon)
    features = (np.random.default_rng(0).normal(size=(N_ITEMS, 3)) * scale).astype(np.float32)
    before = joint(log_of(others, N_ITEMS), features, mechanism, then)
    change = joint(log_of([*others, own], N_ITEMS), features, mechanism, then) - before
    assert sum(x * x for x in change.tolist()) <= (GRID / mechanism.sigma) ** 2
    if len(set(own)) > 1 and scale == 1:
        assert sum(x * x for x in change.tolist()) >= 0.8 * (GRID / mechanism.sigma) ** 2  # the promise is used


@pytest.mark.parametrize("own", [[0, 1] * 3_000, list(range(N_ITEMS)) * 400, [5] * 5_000])
def test_nor_does_a_robot(own):
    mechanism = GaussianMechanism.of(4)
    features = np.ones((N_ITEMS, 3), np.float32)
    change = joint(log_of([[1, 2], own], N_ITEMS), features, mechanism, MANY) - joint(
        log_of([[1, 2]], N_ITEMS), features, mechanism, MANY
    )
    assert sum(x * x for x in change.tolist()) <= (GRID / mechanism.sigma) ** 2
    assert len(latest(log_of([own]))) == LATEST
