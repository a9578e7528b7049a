"""Content that people teach: what is taken together tells which of its sides matters, for items nobody took as well."""

from dataclasses import replace

import numpy as np
import pytest
from test_eval_splits import log_of

from molar_retrieval.encoders.base import unit
from molar_retrieval.models import base, content_knn
from molar_retrieval.models.base import fit_count_models, taught_by
from molar_retrieval.models.content_knn import GRID, ContentKNN, compressed, learned_axes

ITEMS, STYLES, TAKEN = 240, 6, 200


@pytest.fixture(scope="module")
def world():
    """People take items of one style; items look far more like those of their brand. The last 40 nobody has taken."""
    random = np.random.default_rng(3)
    style, brand = random.integers(STYLES, size=ITEMS), random.integers(STYLES, size=ITEMS)
    looks = np.eye(STYLES, dtype=np.float32)
    noise = 0.1 * random.standard_normal((ITEMS, 4))
    features = unit(np.concatenate([0.4 * looks[style], looks[brand], noise], axis=1))
    histories = []
    for person in range(300):
        mine = np.flatnonzero(style[:TAKEN] == person % STYLES)
        histories.append([(int(item), 10 * place) for place, item in enumerate(random.permutation(mine)[:6])])
    return features, style, log_of(histories, ITEMS)


def same_style(items, style, rows):
    """The share of each row's nearest twenty items, by cosine, that are of its style."""
    scores = items @ items.T
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores[rows], axis=1)[:, :20]
    return (style[nearest] == style[rows][:, None]).mean()


def test_items_are_alike_that_people_take_together_and_so_are_those_that_nobody_has_taken(world):
    features, style, log = world
    axes = learned_axes(features, log)
    assert axes.shape == (features.shape[1], features.shape[1])
    for rows in (np.arange(TAKEN), np.arange(TAKEN, ITEMS)):
        assert same_style(compressed(features), style, rows) < 0.5
        assert same_style(compressed(features, axes), style, rows) > 0.8
    assert np.linalg.norm(compressed(features, axes), axis=1) == pytest.approx(1, abs=1e-5)


def test_what_things_look_like_still_counts(world):
    features, _, log = world
    twins = features.copy()
    twins[1] = twins[0]
    items = compressed(twins, learned_axes(twins, log))
    assert items[0] @ items[1] == pytest.approx(1, abs=1e-5)


def test_items_that_few_people_had_teach_nothing(world):
    features, _, log = world
    takers = np.bincount(log.item, minlength=ITEMS)
    least = int(np.median(takers[:TAKEN]))
    without = log.select(takers[log.item] >= least)
    assert len(without) < len(log)
    assert np.allclose(learned_axes(features, log, least), learned_axes(features, without), atol=1e-4)
    assert learned_axes(features, log, 10_000) is None
    assert learned_axes(features, log_of([[(1, 0), (2, 1)]], ITEMS)) is None


def test_no_more_is_read_than_fits(world, monkeypatch):
    features, style, log = world
    monkeypatch.setattr(content_knn, "_MOST_READ", len(log) // 2)
    monkeypatch.setattr(content_knn, "_MOST_ITEMS", 150)
    read = []
    consumed = content_knn.consumed_together

    def spy(log, among, *more):
        read.append((len(log), int(among.sum())))
        return consumed(log, among, *more)

    monkeypatch.setattr(content_knn, "consumed_together", spy)
    axes = learned_axes(features, log)
    assert read[0][0] <= len(log) // 2
    assert read[0][1] <= 150
    assert same_style(compressed(features, axes), style, np.arange(TAKEN, ITEMS)) > 0.8


def test_the_expert_is_taught_and_another_log_teaches_it_anew(world):
    features, _, log = world
    (neighbours,), report = fit_count_models(log, lambda scoring: 0.0, 5, ["content_knn"], features=features)
    assert isinstance(neighbours, ContentKNN)
    assert np.array_equal(neighbours.items, compressed(features, neighbours.axes))
    tried = [one["setting"] for one in report["content_knn"]["tried"]]
    assert tried == [{**way, "taught": taught} for taught in (True, False) for way in GRID]
    assert report["content_knn"]["chosen"] == tried[0]
    half = log.select(log.user % 2 == 0)
    again = taught_by(neighbours, features, half)
    assert np.array_equal(again.axes, learned_axes(features, half))
    assert not np.allclose(again.items, neighbours.items, atol=1e-3)
    plain = replace(neighbours, axes=None)
    assert taught_by(plain, features, half) is plain, "what statistics with noise made, say"


def test_a_log_that_teaches_nothing_leaves_content_as_it_is(world):
    features, _, _ = world
    (neighbours,), _ = fit_count_models(
        log_of([[(1, 0), (2, 1)]], ITEMS), lambda scoring: 0.0, 5, [base.CONTENT_KNN], features=features
    )
    assert neighbours.axes is None
    assert np.array_equal(neighbours.items, compressed(features))
