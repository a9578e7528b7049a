"""Choosing among candidates, and fitting what ships."""

import json

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, leave_one_out, log_of, walks

from molar_eval.models.base import Fitted, validation_ndcg
from molar_retrieval.models import base, ease
from molar_retrieval.models.base import (
    BLOCKS,
    COUNTS,
    NEIGHBOURS,
    REGRESSIONS,
    REGULARISATIONS,
    fit_count_models,
    order,
    tune,
)
from molar_retrieval.models.ease import BlockEASE
from molar_retrieval.models.item_item import InteractionMatrix, known_items, strongest
from molar_retrieval.models.sequential import TransitionRegression, cooccurrence, transitions


class Listener:
    def __init__(self):
        self.told = []

    def start(self, task, total):
        self.told.append([task, total, 0, "running"])

    def advance(self, n=1):
        self.told[-1][2] += n

    def note(self, message):
        self.told.append(message)

    def finish(self):
        next(line for line in reversed(self.told) if isinstance(line, list))[3] = "finished"


@pytest.fixture(scope="module")
def task():
    return leave_one_out(walks(users=200))[0]


@pytest.fixture(scope="module")
def judge(task):
    def judge(scoring):
        return validation_ndcg(Fitted(scoring, known_items(task.training), {}), task, task.validation)

    return judge


def test_choose_keeps_the_first_of_the_best():
    fitted = []

    def fit(value):
        fitted.append(value)
        return value

    scores = {1: 0.25, 2: 0.5, 3: 0.5, 4: 0.1234567}
    candidates = [({"value": value}, lambda value=value: fit(value)) for value in scores]
    best, setting, tried = tune(iter(candidates), scores.__getitem__)
    assert (best, setting, fitted) == (2, {"value": 2}, [1, 2, 3, 4])
    assert [(row["setting"]["value"], row["ndcg@10"]) for row in tried] == [
        (1, 0.25),
        (2, 0.5),
        (3, 0.5),
        (4, 0.123457),
    ]
    assert all(row["seconds"] >= 0 for row in tried)
    with pytest.raises(ValueError, match="empty"):
        tune([], scores.__getitem__)


def test_the_best_of_each_grid_ships(task, judge):
    listener = Listener()
    (sequence, line), report = fit_count_models(task.training, judge, 6, progress=listener)
    assert (sequence.name, line.name) == ("sequential", "ease")
    settings = [{"model": "regression", **s} for s in REGRESSIONS] + [{"model": "co-occurrence", **COUNTS[-1]}]
    assert [row["setting"] for row in report["sequential"]["tried"]] == settings
    tried = [row["setting"] for row in report["ease"]["tried"]]
    assert [row.get("regularisation") for row in tried] == [*REGULARISATIONS, None]
    assert tried[-1] == {"model": "item-kNN", **NEIGHBOURS}
    for expert in (sequence, line):
        own = report[expert.name]
        best = max(row["ndcg@10"] for row in own["tried"])
        assert judge(expert.scores) == pytest.approx(best, abs=1e-6)
        assert own["chosen"] == next(row["setting"] for row in own["tried"] if row["ndcg@10"] == best)
        assert np.bincount(expert.weights.indices).max() <= 6
        assert not expert.weights[28:].nnz
        assert not expert.weights[:, 28:].nnz
        assert "note" not in own
    json.dumps(report)
    assert listener.told == [["counting sequential", 3, 3, "finished"], ["counting ease", 4, 4, "finished"]]
    # On circles walked one way the next item can be foreseen: far better than by popularity.
    counts = np.bincount(task.training.item, minlength=N_ITEMS).astype(np.float32)
    assert judge(sequence.scores) > 2 * judge(lambda log: np.tile(counts, (log.n_users, 1)))


def test_the_sequence_expert_is_the_truncated_regression(task):
    (expert,), report = fit_count_models(task.training, lambda scoring: 0.0, 4, ["sequential"])
    setting = report["sequential"]["chosen"]
    assert setting == {"model": "regression", **REGRESSIONS[0]}  # nothing to choose by
    counts = transitions(task.training, *order(setting))
    model = TransitionRegression.of(task.training, counts, setting["decay"])
    whole = np.zeros((N_ITEMS, N_ITEMS), np.float32)
    whole[np.ix_(model.columns, model.columns)] = model.weights(setting["regularisation"], setting["damping"])
    assert (expert.weights != strongest(whole, 4)).nnz == 0
    assert expert.memory == setting["decay"]
    assert expert.memory**expert.last <= 1e-6


def test_too_many_items_for_a_regression_leave_co_occurrence(task, judge, monkeypatch):
    monkeypatch.setattr(ease, "MAX_ITEMS", 20)
    listener = Listener()
    (expert,), report = fit_count_models(task.training, judge, 4, ["sequential"], listener)
    assert [row["setting"] for row in report["sequential"]["tried"]] == [
        {"model": "co-occurrence", **s} for s in COUNTS
    ]
    setting = report["sequential"]["chosen"]
    counts = transitions(task.training, *order(setting))
    whole = cooccurrence(task.training, counts, setting["shrink"], setting["ordered"])
    assert (expert.weights != strongest(whole, 4)).nnz == 0
    assert expert.memory == setting["memory"]
    assert "the regression was not tried" in report["sequential"]["note"]
    assert report["sequential"]["note"] in listener.told


def test_ease_is_spread_over_the_catalogue():
    histories = [[2 * item + 1 for item in walk] for walk in walks(users=60)]
    (expert,), report = fit_count_models(log_of(histories, 60), lambda scoring: 0.0, 60, ["ease"])
    assert report["ease"]["chosen"] == {"model": "EASE", "regularisation": REGULARISATIONS[0]}
    compact = ease.EASECounts.of(log_of(walks(users=60))).weights(REGULARISATIONS[0])
    expected = np.zeros((60, 60), np.float32)
    expected[1:56:2, 1:56:2] = np.maximum(compact, 0)
    np.testing.assert_allclose(expert.weights.toarray(), expected, rtol=1e-6)
    assert expert.memory is None


def test_beyond_the_limit_ease_is_made_in_blocks_and_the_report_says_so(task, judge, monkeypatch):
    monkeypatch.setattr(ease, "MAX_ITEMS", 27)
    listener = Listener()
    (expert,), report = fit_count_models(task.training, judge, 5, ["ease", "item_knn"], listener)
    settings = [{"model": "block EASE", **setting} for setting in BLOCKS] + [{"model": "item-kNN", **NEIGHBOURS}]
    assert [row["setting"] for row in report["ease"]["tried"]] == settings
    assert "20,000" not in report["ease"]["note"]
    assert "28 are known" in report["ease"]["note"]
    assert listener.told == [["counting ease", 5, 5, "finished"], report["ease"]["note"]]
    assert report["ease"]["chosen"]["model"] == "block EASE"
    regularisation, neighbours = (report["ease"]["chosen"][name] for name in ("regularisation", "n_neighbors"))
    whole = BlockEASE.of(InteractionMatrix.of(task.training), neighbours).weights(regularisation, 5)
    assert (expert.weights != whole).nnz == 0
    monkeypatch.setattr(base, "MANY_ITEMS", 28)
    (_,), report = fit_count_models(task.training, judge, 5, ["ease", "item_knn"])
    (own,) = report.values()
    assert [row["setting"] for row in own["tried"]] == [settings[0], settings[-1]]
    (_,), report = fit_count_models(task.training, judge, 5, ["ease", "item_knn"], blocks=False)
    assert [row["setting"] for row in report["item_knn"]["tried"]] == settings[-1:]


def test_blocks_are_not_worth_their_price_with_few_users_either(task, judge, monkeypatch):
    monkeypatch.setattr(ease, "MAX_ITEMS", 27)
    monkeypatch.setattr(ease, "SMALL", 0)
    monkeypatch.setattr(ease, "ITEMS_PER_USER", 0)
    (expert,), report = fit_count_models(task.training, judge, 5, ["ease", "item_knn"])
    assert [row["setting"]["model"] for row in report["item_knn"]["tried"]] == ["item-kNN"]
    assert "was not tried" in report["item_knn"]["note"]
    whole = ease.item_knn(task.training, **NEIGHBOURS)
    assert (expert.weights != strongest(whole, 5)).nnz == 0


def test_nothing_asked_nothing_fitted(task):
    assert fit_count_models(task.training, lambda scoring: 0.0, 5, []) == ((), {})


def test_a_log_of_one_interaction_is_enough():
    (sequence, line), _ = fit_count_models(
        log_of([[2]], 4), lambda scoring: float(scoring(log_of([[2], []], 4)).sum()), 5
    )
    assert not sequence.weights.nnz
    assert set(line.weights.indices.tolist()) <= {2}
