"""Items with few interactions among newcomers: what is believed of them, and how their chance falls."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from alignment_tasks import NEW, N, model_of, training_log

from molar_retrieval.models.cold_start import exploration, posterior
from molar_retrieval.models.vectors import item_sides
from molar_retrieval.ranking.exploration import inclusion
from molar_retrieval.ranking.objectives import last
from molar_retrieval.workspace.settings import ExplorationSettings


def sold(log, item, count):
    """The log with so many interactions of an item, the same one again and again where there are not as many."""
    others = np.flatnonzero(log.item != item)
    own = np.flatnonzero(log.item == item)
    rows = np.sort(np.concatenate([others, np.resize(own, count)]))
    counts = np.bincount(log.user[rows], minlength=log.n_users)
    return replace(
        log, item=log.item[rows], timestamp=log.timestamp[rows], offsets=np.concatenate([[0], np.cumsum(counts)])
    )


@pytest.fixture(scope="module")
def log():
    return training_log()


@pytest.fixture(scope="module")
def model(log):
    return model_of().seeing(log)


def test_belief_goes_from_the_guess_to_what_was_learned(model):
    rows = np.setdiff1d(np.arange(N), NEW)[:5]
    guess, learned = (posterior(model, rows, np.full(5, share)) for share in (1.0, 0.0))
    half = posterior(model, rows, np.full(5, 0.5))
    assert half == pytest.approx((guess + learned) / 2, abs=1e-5)
    sides = item_sides(model.network, model.known)
    for part in model.dense_parts:
        span, weight = slice(part.start, part.stop), np.float32(model.cold_start_weights.get(part.name, 0.0))
        if part.name == "popularity":
            assert learned[:, span] == pytest.approx(weight * model.predictors["popularity"].mean[0], abs=1e-5)
            assert guess[:, span] == pytest.approx(learned[:, span]), "few sales say how long it has been there"
        elif part.name == "id_tower":
            assert learned[:, span] == pytest.approx(weight * sides["id_tower"][rows], abs=1e-5)
        else:
            assert learned[:, span] == pytest.approx(guess[:, span])


def test_exposure_falls_with_sales_without_a_cliff(model, log):
    """The same item among the same others, of which it has 0 to 30 sales: the probability that it is drawn."""
    item = int(np.bincount(log.item).argmax())
    people = model.users(log, np.arange(log.n_users)).dense
    chances = {}
    for count in (0, 1, 2, 3, 5, 10, 15, 19, 20, 30):
        present = log if count == 0 else sold(log, item, count)
        own = replace(model, known=model.known & (np.arange(N) != item)) if count == 0 else model
        plan, low_support = exploration(own, own.items(present), present, ExplorationSettings(prior_strength=5))
        new = np.flatnonzero(~own.known)
        rows = np.concatenate([new, low_support.rows])
        vectors = np.concatenate([own.items(present).dense[new], low_support.dense])
        place = np.flatnonzero(rows == item)
        logits = people @ vectors.T / plan.scale
        drawn = [inclusion(one.astype(float), 1, place).sum() for one in logits]
        chances[count] = float(np.mean(drawn))
    assert all(chances[count] == 0 for count in (20, 30))
    steps = [chances[count] for count in (0, 1, 2, 3, 5, 10, 15, 19)]
    assert all(later < former for former, later in pairwise(steps)), chances
    assert chances[1] > 0.5 * chances[0], "one sale does not take its places away"
    assert chances[3] > 0.25 * chances[0]
    assert chances[19] < 0.05 * chances[0], "before the last one it is as good as gone"


def test_what_training_did_not_know_keeps_its_whole_chance(model, log):
    plain, _ = exploration(model, model.items(log), log, ExplorationSettings())
    present = replace(log, item=np.where(log.item == log.item[0], np.int32(NEW[0]), log.item))
    again, low_support = exploration(model, model.items(present), present, ExplorationSettings())
    assert NEW[0] not in low_support.rows
    assert again.slots == plain.slots == (9, 10)


@pytest.mark.parametrize(("settings", "slots"), [({}, 2), ({"slots": 1}, 2), ({"slots": 5}, 5), ({"slots": 0}, 2)])
def test_places_are_at_least_what_validation_chose(model, log, settings, slots):
    plan, _ = exploration(model, model.items(log), log, ExplorationSettings(**settings))
    assert plan.slots == last(slots)
    unborne = exploration(replace(model, slots=()), model.items(log), log, ExplorationSettings(**settings))[0]
    assert unborne.slots == last(settings.get("slots", 1))


def test_where_everything_is_known_well_nothing_is_tried(model, log):
    everything = replace(model, known=np.ones(N, bool))
    many = replace(log, item=np.resize(np.arange(N, dtype=np.int32), len(log.item)))
    plan, low_support = exploration(everything, everything.items(many), many, ExplorationSettings(prior_strength=0.01))
    assert plan.slots == ()
    assert low_support is None
