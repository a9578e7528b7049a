"""What every baseline has to do, whatever it computes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from eval_model_tasks import COLD, N_ITEMS, NO_CONTENT, circles, leave_one_out, log_of, walks

from molar_eval.metrics import accuracy
from molar_eval.models.baselines import ALS, baselines
from molar_eval.models.sasrec import SASRec, SASRecSettings
from molar_eval.ranking import rank
from molar_retrieval.errors import DataError

NAMES = list(baselines())
BY_CONTENT = {"content kNN", "TF-IDF kNN"}
QUICK = {
    "ALS": lambda: ALS(ALS.GRID[:2]),
    "SASRec": lambda: SASRec(
        [SASRecSettings(dim=16, history=8, batch=16, epochs=4, learning_rate=3e-3, device="cpu", precision="float32")]
    ),
}


def make(name):
    return QUICK.get(name, baselines()[name])()


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def data(name, tmp_path_factory):
    task, test = leave_one_out(walks(), tmp_path_factory.mktemp("models"), circles())
    return replace(task, seen="show") if name == "personal frequency" else task, test


@pytest.fixture(scope="module")
def fitted(name, data):
    for array in (data[0].training.item, data[0].training.offsets, data[0].content, data[0].candidates):
        array.flags.writeable = False
    return make(name).fit(data[0], seed=3)


def test_describes_itself(name):
    model = baselines()[name]()
    assert (model.name, model.kind) == (name, "baseline")
    assert json.loads(json.dumps(model.settings)) == model.settings
    assert model.stochastic == (name in {"ALS", "SASRec"})
    assert name in {"popularity", "SASRec"} or 4 <= len(model.settings["grid"]) <= 35


def test_scores_are_a_fresh_float_table(fitted, data):
    inputs = data[1].inputs()
    first = fitted.scores(inputs)
    assert first.shape == (len(data[1]), N_ITEMS)
    assert first.dtype == np.float32
    assert not np.isnan(first).any()
    assert not (first == np.inf).any()
    kept = first.copy()
    first[:] = 7
    assert np.array_equal(fitted.scores(inputs), kept)


def test_what_cannot_be_scored_is_minus_infinity_for_everybody(name, fitted, data):
    impossible = np.isneginf(fitted.scores(data[1].inputs()))
    expected = {NO_CONTENT} if name in BY_CONTENT else set(COLD)
    assert set(np.flatnonzero(impossible.all(axis=0))) == expected
    assert set(np.flatnonzero(impossible.any(axis=0))) == expected


def test_ranks_better_than_chance(name, fitted, data):
    task, test = data
    ranks = rank(test, fitted.scores, k=5, candidates=task.candidates, seen=task.seen).ranks
    ndcg = accuracy(ranks, test.offsets, (5,))["ndcg@5"].mean()
    unseen = N_ITEMS - len(walks()[0]) + 1
    chance = (1 / np.log2(np.arange(2, 7))).sum() / unseen
    assert name in {"popularity", "recent popularity", "personal frequency"} or ndcg > 1.5 * chance


def test_an_empty_history_and_a_single_one(fitted):
    together = fitted.scores(log_of([[], [3, 4, 6], []]))
    alone = fitted.scores(log_of([[3, 4, 6]]))
    assert together.shape == (3, N_ITEMS)
    assert np.array_equal(together[0], together[2])
    np.testing.assert_allclose(together[1], alone[0], rtol=1e-4, atol=1e-5)


def test_items_unknown_to_training_do_no_harm(name, fitted):
    with_cold, without = fitted.scores(log_of([[3, COLD[0], 4], [3, 4]]))
    only_cold = fitted.scores(log_of([[COLD[0]]]))
    assert not np.isnan(only_cold).any()
    if name not in {*BY_CONTENT, "co-occurrence", "personal frequency"}:  # where places, times or content count
        np.testing.assert_allclose(with_cold, without, rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_scores(name, fitted, data, tmp_path):
    task = replace(data[0], folder=tmp_path)
    again = make(name).fit(task, seed=3)
    assert np.array_equal(again.scores(data[1].inputs()), fitted.scores(data[1].inputs()))
    if make(name).stochastic:
        other = make(name).fit(task, seed=4)
        assert not np.array_equal(other.scores(data[1].inputs()), fitted.scores(data[1].inputs()))


def test_what_comes_after_the_split_changes_nothing(name, fitted, data, tmp_path):
    changed = [np.append(history[:-1], (history[-1] + 11) % N_ITEMS) for history in walks()]
    task, _ = leave_one_out(changed, tmp_path, circles())
    other = make(name).fit(replace(task, seen=data[0].seen), seed=3)
    assert np.array_equal(other.scores(data[1].inputs()), fitted.scores(data[1].inputs()))


def test_facts_tell_what_was_tried_and_the_best_was_chosen(name, fitted):
    facts = json.loads(json.dumps(fitted.facts))
    assert [row["setting"] for row in facts["tried"]] == json.loads(json.dumps(make(name).settings["grid"]))
    best = max(facts["tried"], key=lambda row: row["ndcg@10"])
    assert facts["chosen"] == best["setting"]
    assert facts["validation_cases"] == 80


def test_no_training_interactions_is_refused(name, data):
    nothing = data[0].training.select(np.zeros(len(data[0].training), bool))
    with pytest.raises(DataError):
        make(name).fit(replace(data[0], training=nothing), seed=0)
