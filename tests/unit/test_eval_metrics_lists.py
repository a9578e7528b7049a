"""Metrics of lists against plain Python on random lists, and by hand where they can be."""

import math
from itertools import permutations

import numpy as np
import pytest
from eval_ranking_cases import cases_of, log_of, ragged, slowly_ranked

from molar_eval import metrics
from molar_eval.metrics import ListContext, coverage, gini, list_metrics, popularity_lift
from molar_eval.ranking import rank
from molar_retrieval.errors import SettingsError

N_ITEMS, N_CASES, N_CODES, CUTOFFS = 30, 40, 5, (1, 4, 9)


class Run:
    """A random run with everything odd in it: short lists, empty inputs, items without content or category."""

    def __init__(self, seen):
        random = np.random.default_rng(3)
        self.seen = seen
        self.training = [random.integers(0, N_ITEMS, random.integers(0, 12)).tolist() for _ in range(25)]
        self.histories = [random.integers(0, N_ITEMS, random.integers(0, 25)).tolist() for _ in range(N_CASES)]
        self.targets = [random.choice(N_ITEMS, random.integers(1, 5), replace=False).tolist() for _ in range(N_CASES)]
        self.candidates = random.random(N_ITEMS) < 0.7
        self.scores = random.integers(0, 6, (N_CASES, N_ITEMS)).astype(np.float32)
        self.scores[random.random(self.scores.shape) < 0.3] = -np.inf
        self.scores[0] = -np.inf
        self.content = random.standard_normal((N_ITEMS, 3)).astype(np.float32)
        self.content /= np.linalg.norm(self.content, axis=1, keepdims=True)
        self.content[random.random(N_ITEMS) < 0.3] = 0
        self.codes = [random.choice(N_CODES, random.integers(0, 4), replace=False) for _ in range(N_ITEMS)]
        self.cases = cases_of(self.histories, self.targets, N_ITEMS)
        self.popularity = [sum(item in history for history in self.training) for item in range(N_ITEMS)]
        self.context = ListContext.of(
            log_of(self.training, N_ITEMS), self.candidates, seen, self.content, ragged(self.codes)
        )
        options = {"k": max(CUTOFFS), "candidates": self.candidates, "seen": seen}
        self.ranked = rank(self.cases, lambda inputs: self.scores, **options)
        self.each, self.overall = list_metrics(self.ranked, self.cases, self.context, CUTOFFS)

    def lists(self, k):
        return [[item for item in row[:k].tolist() if item >= 0] for row in self.ranked.items]


@pytest.fixture(scope="module", params=["hide", "show"])
def run(request):
    return Run(request.param)


def _mean(values):
    return sum(values) / len(values) if values else math.nan


def _share(run, items):
    known = [item for item in items if len(run.codes[item])]
    return {
        code: _mean([(code in run.codes[item]) / len(run.codes[item]) for item in known]) for code in range(N_CODES)
    }


def test_context(run):
    assert run.context.popularity.tolist() == run.popularity
    assert run.context.n_users == sum(map(bool, run.training))
    assert any(len(set(history)) < len(history) for history in run.training)


@pytest.mark.parametrize("k", CUTOFFS)
class TestPerCase:
    def test_novelty(self, run, k):
        users = sum(map(bool, run.training))
        expected = [_mean([-math.log2(max(run.popularity[i], 1) / users) for i in row]) for row in run.lists(k)]
        assert run.each[f"novelty@{k}"] == pytest.approx(expected, rel=1e-5, nan_ok=True)
        assert math.isnan(expected[0])

    def test_diversity(self, run, k):
        expected = []
        for row in run.lists(k):
            known = [run.content[item] for item in row if run.content[item].any()]
            expected.append(_mean([1 - float(a @ b) for a, b in permutations(known, 2)]))
        assert run.each[f"diversity@{k}"] == pytest.approx(expected, abs=1e-5, nan_ok=True)
        assert k == 1 or not np.isnan(expected).all()

    def test_serendipity(self, run, k):
        popular = np.tile(np.array(run.popularity, float), (N_CASES, 1))
        arguments = (run.histories, run.targets, run.candidates, run.seen == "hide")
        shown, _ = slowly_ranked(popular, *arguments, k)
        _, ranks = slowly_ranked(run.scores, *arguments, k)
        place = iter(ranks)
        expected = [
            sum(1 <= next(place) <= k and target not in [item for _, item in row] for target in own) / k
            for own, row in zip(run.targets, shown, strict=True)
        ]
        assert run.each[f"serendipity@{k}"] == pytest.approx(expected)
        assert k == 1 or max(expected) > 0

    def test_calibration(self, run, k):
        expected = []
        for history, row in zip(run.histories, run.lists(k), strict=True):
            p, q = _share(run, history), _share(run, row)
            terms = [p[c] * math.log(p[c] / (0.99 * q[c] + 0.01 * p[c])) for c in p if p[c] > 0]
            undefined = math.isnan(p[0]) or math.isnan(q[0])
            expected.append(math.nan if undefined else sum(terms))
        assert run.each[f"calibration@{k}"] == pytest.approx(expected, abs=1e-6, nan_ok=True)
        assert 0 < np.isnan(expected).sum() < N_CASES

    def test_whole_run(self, run, k):
        flat = [item for row in run.lists(k) for item in row]
        counts = [flat.count(item) for item in np.flatnonzero(run.candidates)]
        assert run.overall[f"coverage@{k}"] == pytest.approx(_mean([count > 0 for count in counts]))
        differences = sum(abs(a - b) for a in counts for b in counts)
        assert run.overall[f"gini@{k}"] == pytest.approx(differences / (2 * len(counts) * sum(counts)))
        pairs = [(row, own) for row, own in zip(run.lists(k), run.histories, strict=True) if row and own]
        listed, taken = (_mean([_mean([run.popularity[i] for i in pair[s]]) for pair in pairs]) for s in (0, 1))
        assert run.overall[f"popularity_lift@{k}"] == pytest.approx((listed - taken) / taken, rel=1e-5)


def test_blocks_of_cases_change_nothing(run, monkeypatch):
    monkeypatch.setattr(metrics, "_CASES", 7)
    each, overall = list_metrics(run.ranked, run.cases, run.context, CUTOFFS)
    assert overall == run.overall
    for name, values in each.items():
        assert values == pytest.approx(run.each[name], nan_ok=True), name


def test_names(run):
    assert set(run.each) == {
        f"{m}@{k}" for m in ("novelty", "serendipity", "diversity", "calibration") for k in CUTOFFS
    }
    bare = ListContext.of(log_of(run.training, N_ITEMS), run.candidates)
    each, overall = list_metrics(run.ranked, run.cases, bare, [4])
    assert set(each) == {"novelty@4", "serendipity@4"}
    assert set(overall) == {"coverage@4", "gini@4", "popularity_lift@4"}


def test_cutoffs(run):
    with pytest.raises(SettingsError, match="9 items cannot be judged at 20"):
        list_metrics(run.ranked, run.cases, run.context, [5, 20])
    with pytest.raises(SettingsError, match="0 is no length"):
        list_metrics(run.ranked, run.cases, run.context, [0])


def test_extremes():
    candidates = np.arange(6) < 5
    everything, one = np.array([[0, 1], [2, 3], [4, -1]], np.int32), np.full((9, 1), 3, np.int32)
    assert (coverage(everything, candidates), gini(everything, candidates)) == (1, 0)
    assert (coverage(one, candidates), gini(one, candidates)) == (0.2, pytest.approx(0.8))
    empty = np.full((2, 3), -1, np.int32)
    cases = cases_of([[0], [1]], [[2], [2]], 6)
    assert coverage(empty, candidates) == 0
    assert math.isnan(gini(empty, candidates))
    assert math.isnan(popularity_lift(empty, cases, np.ones(6, np.int64)))
    assert math.isnan(popularity_lift(np.array([[2], [3]], np.int32), cases, np.array([0, 0, 1, 1, 1, 1])))


def test_the_popular_list_holds_no_surprise():
    training = [[0, 1, 2], [0, 1], [0], [4, 5]]
    cases = cases_of([[0], [3]], [[1, 4], [0]], 6)
    context = ListContext.of(log_of(training, 6), np.ones(6, bool))
    row = np.array([3, 2, 1, 0, 1, 1], np.float32)
    ranked = rank(cases, lambda inputs: np.tile(row, (inputs.n_users, 1)), k=3, candidates=context.candidates)
    each, overall = list_metrics(ranked, cases, context, [1, 3])
    assert each["serendipity@1"].tolist() == each["serendipity@3"].tolist() == [0, 0]
    assert overall["popularity_lift@1"] > 0
