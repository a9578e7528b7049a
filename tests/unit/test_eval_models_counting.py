"""The counting baselines against slow versions in plain Python."""

import math
from dataclasses import replace

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, leave_one_out, log_of, walks

from molar_eval.models.baselines import (
    ContentKNN,
    ItemKNN,
    OrderedCooccurrence,
    PersonalFrequency,
    Popularity,
    RecentPopularity,
)
from molar_retrieval.errors import DataError
from molar_retrieval.models.item_item import known_items
from molar_retrieval.models.validation import taken

DAY = 86_400


def test_popularity_counts_training_interactions():
    task, test = leave_one_out(walks())
    scores = Popularity().fit(task, 0).scores(test.inputs())
    for item in range(N_ITEMS):
        count = int((task.training.item == item).sum())
        assert (scores[:, item] == (count or -math.inf)).all()


@pytest.fixture
def fashion():
    """Item 0 was taken by many long ago, item 1 by a few lately."""
    times = [0, DAY, 2 * DAY] * 30 + [300 * DAY, 301 * DAY, 302 * DAY] * 5
    log = log_of([[0, 2, 3]] * 30 + [[1, 1, 1]] * 5, N_ITEMS, times)
    return replace(leave_one_out(walks())[0], training=log)


def test_a_short_half_life_follows_the_fashion(fashion):
    log = fashion.training
    short, long = (RecentPopularity([{"half_life_days": d}]).fit(fashion, 0).scores(log)[0] for d in (7, 100_000))
    assert short[1] > short[0]
    assert long[1] < long[0]


def test_recent_popularity_is_that_of_the_day_of_the_question(fashion):
    asked = replace(log_of([[2], [2], []]), asked_at=np.array([301 * DAY + 3600, 10 * DAY, 0]))
    late, early, never = RecentPopularity([{"half_life_days": 7}]).fit(fashion, 0).scores(asked)
    assert late[1] == pytest.approx(math.log(5 * 2 ** (-1 / 7) + 0.05), rel=1e-5)
    assert early[0] == pytest.approx(math.log(30 * 2 ** (-10 / 7) + 0.05), rel=1e-5)
    assert early[1] == pytest.approx(math.log(0.05), rel=1e-5)
    assert len(set(never[:4].tolist())) == 1


def test_recent_popularity_refuses_a_log_without_times():
    task, _ = leave_one_out(walks())
    timeless = replace(task.training, timestamp=np.zeros(len(task.training), np.int64))
    with pytest.raises(DataError, match="times"):
        RecentPopularity().fit(replace(task, training=timeless), 0)


def test_personal_frequency_is_what_somebody_took_with_decay_then_what_many_took(fashion):
    task = replace(fashion, seen="show")
    asked = replace(log_of([[1, 0, 1]], N_ITEMS, [0, 10 * DAY, 20 * DAY]), asked_at=np.array([30 * DAY]))
    decayed, counted = (PersonalFrequency([{"half_life_days": d}]).fit(task, 0).scores(asked)[0] for d in (10, None))
    assert decayed[:2] == pytest.approx([2**-2, 2**-3 + 2**-1], rel=1e-4)
    assert counted[:2] == pytest.approx([1, 2], rel=1e-4)
    assert 0 < counted[2] < 1e-5  # of others the more popular ones
    assert (counted[:4] > counted[4]).all()


def test_personal_frequency_has_nothing_to_say_where_seen_items_are_hidden(fashion):
    with pytest.raises(DataError, match="hidden"):
        PersonalFrequency().fit(fashion, 0)


def test_cooccurrence_against_its_formula():
    task, _ = leave_one_out(walks())
    setting = {"window": 4, "decay": 0.8, "shrink": 3, "memory": 0.6}
    history = [5, 9, 5, 7]
    scores = OrderedCooccurrence([setting]).fit(task, 0).scores(log_of([history]))[0]
    counts = np.bincount(task.training.item, minlength=N_ITEMS)
    expected = np.zeros(N_ITEMS)
    for user in range(task.training.n_users):
        walk = task.training.history(user).tolist()
        for at, item in enumerate(walk):
            weight = sum(0.6**place for place, taken in enumerate(reversed(history)) if taken == item)
            for distance in range(1, min(5, len(walk) - at)):
                other = walk[at + distance]
                expected[other] += weight * 0.8 ** (distance - 1) / math.sqrt((counts[item] + 3) * (counts[other] + 3))
    known = counts > 0
    np.testing.assert_allclose(scores[known], expected[known], rtol=1e-4, atol=1e-6)
    assert np.isneginf(scores[~known]).all()


def test_neighbours_add_up_similarities_by_the_weights_of_a_history():
    task, _ = leave_one_out(walks())
    setting = {"weighting": "cosine", "shrink": 5, "n_neighbors": N_ITEMS}
    once, weighted = ItemKNN([setting]).fit(task, 0).scores(log_of([[3, 4, 4], [3, 4]], weights=[1, 1, 1, 0.5, 3]))
    dense = np.zeros((80, N_ITEMS))
    np.add.at(dense, (task.training.user, task.training.item), 1)
    lengths = np.sqrt((dense**2).sum(0) + 5)  # nobody takes anything twice, so the mean square is 1
    similar = dense.T @ dense / np.outer(lengths, lengths)
    known = dense.any(axis=0)
    np.testing.assert_allclose(once[known], (similar[3] + 2 * similar[4])[known], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(weighted[known], (0.5 * similar[3] + 3 * similar[4])[known], rtol=1e-4, atol=1e-6)
    assert np.isneginf(once[~known]).all()


def test_content_is_the_cosine_to_the_decayed_mean():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(N_ITEMS, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[3] = 0
    task, _ = leave_one_out(walks(), content=vectors)
    fitted = ContentKNN([{"last": 2, "decay": 0.5}]).fit(task, 0)
    scores = fitted.scores(log_of([[9, 4, 6], [3], []]))
    taste = vectors[6] + 0.5 * vectors[4]
    expected = vectors @ taste / np.linalg.norm(taste)
    np.testing.assert_allclose(np.delete(scores[0], 3), np.delete(expected, 3), rtol=1e-4, atol=1e-6)
    assert np.isneginf(scores[:, 3]).all()
    assert (np.delete(scores[1:], 3, axis=1) == 0).all()
    assert fitted.facts["training_cases"] == len(taken(task.training, known_items(task.training), 0, 5000 - 80)) > 200
    shown = ContentKNN([{"last": 2, "decay": 0.5}]).fit(replace(task, seen="show"), 0)
    assert "training_cases" not in shown.facts, "what somebody had is asked for there"


def test_content_is_needed():
    task, _ = leave_one_out(walks())
    with pytest.raises(DataError, match="content"):
        ContentKNN().fit(task, 0)
