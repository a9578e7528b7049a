"""What the index loses, on a made-up model whose exact answers are computed here by hand."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from eval_model_tasks import COLD, N_ITEMS, leave_one_out, walks
from scipy.sparse import csr_matrix

from molar_eval import index_recall
from molar_eval.index_recall import index_costs
from molar_eval.models.ours import MolarScorer
from molar_indexes.server import push
from molar_indexes.what_if import Variation
from molar_retrieval.models.towers.inference import UserVectors
from molar_retrieval.models.vectors import ItemItemVectors, ItemVectors
from molar_retrieval.ranking.query import Listing, ScoredItem
from molar_retrieval.workspace.settings import IndexSettings

K, DIM, LIFT = 5, 12, 1.5
RANDOM = np.random.default_rng(0)
DENSE = RANDOM.standard_normal((N_ITEMS, DIM)).astype(np.float32)
NEIGHBORS = np.where(RANDOM.random((N_ITEMS, N_ITEMS)) < 0.2, 2.0, 0.0).astype(np.float32)
NEW = np.isin(np.arange(N_ITEMS), COLD)
NEIGHBORS[NEW] = 0


class Model:
    """A user's vectors are sums over the history, and newcomers are lifted by a constant."""

    def __init__(self):
        self.asked = []

    def users(self, log, rows, progress=None):
        self.asked.append(log.asked_at)
        had = np.zeros((log.n_users, N_ITEMS), np.float32)
        had[log.user, log.item] = 1
        return UserVectors((had @ DENSE)[rows], csr_matrix(had[rows]))

    def items(self, log):
        return ItemVectors(DENSE, ItemItemVectors.of([(csr_matrix(NEIGHBORS.T), 1.0)], N_ITEMS), NEW)

    reranker, objectives = None, {}

    def scores_of(self, users, log, objective):
        return users.dense @ DENSE.T + users.sparse @ NEIGHBORS.T

    def lifted(self, scores, allowed, objective):
        return scores + np.float32(LIFT) * NEW


class Served:
    """Ranks item by item."""

    sparse_counts = True

    def __init__(self, workspace, generation):
        self.generation = generation
        self.ranker = self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def rank(self, requests):
        (request,) = requests
        asker, sparse = request.user, request.user.sparse
        assert set(np.asarray(asker.history).tolist()) == set(request.hidden), "the second stage reads the history"

        def score(item):
            found = sum(u * v for u, v in zip(asker.vector, DENSE[item].tolist(), strict=True)) + LIFT * bool(NEW[item])
            if self.sparse_counts:
                found += sum(NEIGHBORS[item, n] * v for n, v in zip(sparse.indices, sparse.values, strict=True))
            return found

        best = sorted(set(range(N_ITEMS)) - request.hidden, key=lambda item: (-score(item), item))[: request.query.k]
        yield Listing([ScoredItem(item, score(item), {}, n) for n, item in enumerate(best, 1)])


class Known:
    """An index of the known items' dense vectors."""

    def top(self, name, query, k, *, exclude):
        assert name == "aligned"
        scores = DENSE @ np.asarray(query, np.float32)
        best = [row for row in np.argsort(-scores, kind="stable").tolist() if not NEW[row] and row not in exclude]
        return [(row, float(scores[row])) for row in best[:k]]


@pytest.fixture
def ask(monkeypatch):
    """Ask the served index, or with other names of the module replaced."""
    task, cases = leave_one_out(walks())
    model = Model()
    scorer = MolarScorer(model, SimpleNamespace(), {})
    monkeypatch.setattr(index_recall, "open_log", lambda _: task.training)
    monkeypatch.setattr(index_recall, "publish_generation", lambda *_: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(index_recall, "Recommender", Served)

    def run(settings=IndexSettings(), **changes):  # noqa: B008 (frozen)
        for name, value in {"_VARIATIONS": {}, **changes}.items():
            monkeypatch.setattr(index_recall, name, value)
        return index_costs(scorer, cases, settings, k=K, cutoffs=(K,))

    run.model, run.cases = model, cases
    return run


def lists(cases, *, sparse=True, newcomers=True):
    """The exact answers, case by case."""
    found = []
    for case in range(len(cases)):
        history = cases.inputs().history(case)
        scores = DENSE @ DENSE[history].sum(axis=0) + LIFT * NEW
        scores = scores + NEIGHBORS[:, history].sum(axis=1) if sparse else scores
        scores[history] = -np.inf
        scores[NEW if not newcomers else np.zeros(N_ITEMS, bool)] = -np.inf
        found.append(np.argsort(-scores, kind="stable")[:K].tolist())
    return found


def hits(cases, found):
    return np.mean([target in answer for target, answer in zip(cases.targets, found, strict=True)])


def test_a_faithful_index_costs_nothing(ask):
    (served,) = ask()
    assert served.backend == "edge, as served"
    assert (served.recall, served.queries) == (1, len(ask.cases))
    assert served.metrics == served.exact_metrics
    assert served.metrics[f"recall@{K}"] == pytest.approx(hits(ask.cases, lists(ask.cases)))
    assert served.milliseconds > 0


def test_a_server_is_asked_where_the_settings_name_one(ask, monkeypatch):
    asked = []

    @contextmanager
    def trial(workspace, settings, progress):
        asked.append(settings.url)
        yield SimpleNamespace(index=Known(), close=lambda: None)
        asked.append("removed")

    monkeypatch.setattr(push, "on_trial", trial)
    served, dense = ask(IndexSettings(url="http://db:6333", quantisation="scalar"))
    assert served.backend == "server, as served"
    assert (dense.backend, dense.recall) == ("server, aligned vectors alone", 1)
    assert dense.metrics == dense.exact_metrics
    assert (served.settings["quantisation"], served.recall) == ("scalar", 1)
    assert "url" not in served.settings
    assert asked == ["http://db:6333", "removed"]


def test_what_the_index_forgets_is_counted(ask, monkeypatch):
    monkeypatch.setattr(Served, "sparse_counts", False)
    served = ask()[0]
    exact, poor = lists(ask.cases), lists(ask.cases, sparse=False)
    shared = np.mean([len(set(a) & set(b)) / K for a, b in zip(exact, poor, strict=True)])
    assert shared < 0.9
    assert served.recall == pytest.approx(shared)
    assert served.metrics[f"recall@{K}"] == pytest.approx(hits(ask.cases, poor))
    assert served.exact_metrics[f"recall@{K}"] == pytest.approx(hits(ask.cases, exact))


def test_variations_are_of_the_dense_vectors_of_known_items(ask):
    scan = {"scan": Variation(graph=False), "1 bit": Variation(graph=False, quantisation="binary")}
    _, exact, rough = ask(_VARIATIONS=scan)
    assert (exact.settings["vectors"], exact.settings["items"], exact.settings["graph"]) == ("aligned", "known", False)
    assert exact.recall == 1, "rows, and what is hidden, are those of the catalogue"
    wanted = lists(ask.cases, sparse=False, newcomers=False)
    assert exact.exact_metrics[f"recall@{K}"] == pytest.approx(hits(ask.cases, wanted))
    assert exact.metrics == exact.exact_metrics == rough.exact_metrics
    assert rough.recall < 1


def test_everybody_is_asked_now(ask):
    ask()
    assert ask.model.asked
    assert all(asked is None for asked in ask.model.asked)


def test_many_cases_are_drawn_from(ask):
    assert {cost.queries for cost in ask(QUERIES=7)} == {7}
