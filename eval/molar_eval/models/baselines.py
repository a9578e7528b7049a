"""The baselines: counting, closed forms and the library `implicit`, each with its standard grid of settings."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from molar_eval.cases import Mask, Scores
from molar_eval.models.base import Model, Task
from molar_eval.models.sasrec import SASRec
from molar_eval.models.tuning import Baseline, Scoring, Setting, sample
from molar_eval.splits.base import DAY
from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions, to_csr
from molar_retrieval.errors import DataError
from molar_retrieval.models import als, content_knn, ease, popularity
from molar_retrieval.models.item_item import ItemItemWeights, binary, known_items, reach
from molar_retrieval.models.popularity import HALF_LIVES
from molar_retrieval.models.sequential import cooccurrence, transitions
from molar_retrieval.models.validation import ValidationCases, taken
from molar_retrieval.workspace.settings import CFSettings

Matrix = npt.NDArray[np.floating[Any]]
_BELOW = 1e-6
"""Popularity of the most popular item, against having taken one once."""


class Popularity(Baseline):
    """How often each item was taken; there is nothing to choose."""

    name = "popularity"
    GRID = ({},)

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Count the training interactions of each item."""
        counts = np.bincount(task.training.item, minlength=task.training.n_items).astype(np.float32)
        return lambda setting: lambda inputs: np.tile(counts, (inputs.n_users, 1))


class RecentPopularity(Baseline):
    """How often each item was taken before the day of the case, an interaction's weight halving with its age."""

    name = "recent popularity"
    GRID = tuple({"half_life_days": days} for days in HALF_LIVES if np.isfinite(days))

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Check that the log has times: DataError if all training interactions have the same one."""
        log = task.training
        if log.timestamp.min() == log.timestamp.max():
            raise DataError("recent popularity needs times, and the log has none", "leave this model out of the suite")
        return lambda setting: popularity.Popularity.fit(log, setting["half_life_days"]).scores


class PersonalFrequency(Baseline):
    """How often a person took each item, a time's weight halving with its age, then popularity.

    Hard to beat where people buy the same again: without decay it is GP-TopFreq (Li et al. 2023, doi:10.1145/3587153);
    decay is as in TIFU-KNN (Hu et al. 2020, doi:10.1145/3397271.3401066).
    """

    name = "personal frequency"
    GRID = tuple({"half_life_days": days} for days in (15.0, 30.0, 60.0, 120.0, 240.0, 480.0, None))

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Count what fills the rest of lists; DataError where seen items are hidden, as it has nothing to say there."""
        if task.seen == "hide":
            raise DataError("personal frequency ranks what people had, which is hidden here", "show seen items")
        counts = np.bincount(task.training.item, minlength=task.training.n_items)
        rest = (_BELOW * counts / counts.max()).astype(np.float32)
        last = int(task.training.timestamp.max())

        def score(half_life: float | None, inputs: Interactions) -> Scores:
            asked = np.full(inputs.n_users, last) if inputs.asked_at is None else inputs.asked_at
            days = np.maximum(asked[inputs.user] - inputs.timestamp, 0) / DAY
            times = np.ones(len(days)) if half_life is None else np.exp2(-days / half_life)
            scores = np.tile(rest, (inputs.n_users, 1))
            np.add.at(scores, (inputs.user, inputs.item), times.astype(np.float32))
            return scores

        return lambda setting: partial(score, setting["half_life_days"])


class ItemKNN(Baseline):
    """The sum of an item's similarities to those of a history (Sarwar et al. 2001, doi:10.1145/371920.372071)."""

    name = "item-kNN"
    GRID = tuple(
        {"weighting": weighting, "shrink": shrink, "neighbours": count}
        for weighting, shrinks in (("cosine", (0, 20, 100)), ("tfidf", (0, 20, 100)), ("bm25", (0,)))
        for shrink in shrinks
        for count in (2, 5, 20, 200, 1000)
    )

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Settings share nothing."""

        def fit(setting: Setting) -> Scoring:
            similarity = ease.item_knn(task.training, **setting)
            return lambda inputs: (to_csr(inputs) @ similarity).toarray()

        return fit


class OrderedCooccurrence(Baseline):
    """Items that followed those of the history within a window, near and recent ones counting most.

    The weight of item j after item i is ``Σ decay ** (distance - 1) / √((n_i + shrink) (n_j + shrink))`` over all
    places where j follows i at a distance of at most ``window`` in a training history, n being the training counts. A
    history is read with weight ``memory ** places from its end``.
    """

    name = "co-occurrence"
    GRID = tuple(
        {"window": window, "decay": decay, "shrink": shrink, "memory": memory}
        for window, decay in ((10, 0.9), (10, 0.8), (5, 0.8))
        for shrink in (20, 100)
        for memory in (0.7, 0.8)
    )

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Counts are shared between settings with the same window and decay that follow each other."""
        followed = lru_cache(maxsize=1)(partial(transitions, task.training))

        def fit(setting: Setting) -> Scoring:
            counts = followed(setting["window"], setting["decay"])
            weights = cooccurrence(task.training, counts, setting["shrink"], ordered=True)
            return ItemItemWeights(self.name, weights, setting["memory"], reach(setting["memory"])).scores

        return fit


class ALS(Baseline):
    """Implicit ALS (Hu, Koren and Volinsky 2008, doi:10.1109/ICDM.2008.22), fitted by the code that `molar` uses.

    Users are folded in from the history they are asked with, so nobody needs a trained vector: a user is the exact
    least-squares solution for the history with the item factors as fitted.
    """

    name = "ALS"
    stochastic = True
    GRID = tuple(
        {"factors": factors, "regularization": penalty, "alpha": alpha, "iterations": 15}
        for factors, penalty, alpha in (
            (64, 0.01, 1.0), (64, 10.0, 1.0), (128, 0.01, 1.0), (128, 10.0, 1.0),
            (64, 1.0, 5.0), (64, 1.0, 20.0), (128, 1.0, 20.0), (64, 10.0, 40.0),
        )
    )  # fmt: skip

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Every setting starts from the same random state."""
        start = rng.derive_seed(seed, "ALS") % 2**31

        def fit(setting: Setting) -> Scoring:
            settings = CFSettings(**setting, seed=start)
            items = als.fit(task.training, settings).items
            return lambda inputs: fold_in_als(inputs, items, settings) @ items.T

        return fit


def fold_in_als(inputs: Interactions, items: Scores, settings: CFSettings) -> Scores:
    """The ALS factors of users with these histories, shape (n_histories, factors); zero for an empty history."""
    from implicit.als import AlternatingLeastSquares

    with threadpool_limits(limits=1, user_api="blas"):
        solver = AlternatingLeastSquares(
            factors=items.shape[1], regularization=settings.regularization, alpha=settings.alpha
        )
        solver.item_factors = items
        users: Scores = solver.recalculate_user(np.arange(inputs.n_users), to_csr(inputs))
    return users


class BPR(Baseline):
    """Bayesian personalised ranking (Rendle et al. 2009, arXiv 1205.2618), through the library `implicit`.

    Matrix factorisation trained on pairs of a taken and another item; users are folded in, see :func:`fold_in_bpr`.
    """

    name = "BPR"
    stochastic = True
    GRID = tuple(
        {"factors": 64, "learning_rate": rate, "regularization": penalty, "iterations": count, "ridge": ridge}
        for rate, penalty, count in ((0.01, 0.01, 100), (0.02, 0.03, 40), (0.05, 0.01, 20))
        for ridge in (0.01, 0.03, 0.1)
    )

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Settings that differ in the ridge alone share the item factors."""
        known = known_items(task.training)
        start = rng.derive_seed(seed, "BPR") % 2**31
        trained = lru_cache(maxsize=1)(lambda *options: _train_bpr(task.training, start, *options))

        def fit(setting: Setting) -> Scoring:
            names = ("factors", "learning_rate", "regularization", "iterations")
            items, bias = trained(*(setting[name] for name in names))

            def score(inputs: Interactions) -> Scores:
                users = fold_in_bpr(inputs, items, bias, known, setting["ridge"])
                scores: Scores = users.astype(np.float32) @ items.T.astype(np.float32) + bias.astype(np.float32)
                return scores

            return score

        return fit


def _train_bpr(
    log: Interactions, seed: int, factors: int, learning_rate: float, regularization: float, iterations: int
) -> tuple[Matrix, Matrix]:
    """Item factors (n_items, factors) and biases (n_items,); one thread, as several would race."""
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors, learning_rate, regularization, iterations=iterations, num_threads=1, random_state=seed
    )
    with threadpool_limits(limits=1, user_api="blas"):
        model.fit(binary(log), show_progress=False)
    learned = np.asarray(model.item_factors, np.float64)
    return learned[:, :-1], learned[:, -1]


def fold_in_bpr(inputs: Interactions, items: Matrix, bias: Matrix, known: Mask, ridge: float) -> Matrix:
    """User vectors for histories, from the item factors as trained.

    BPR has no closed form for a user, so its loss is taken to the second order about equal scores, ``-ln σ(x) ≈ ln 2 -
    x/2 + x²/8``, with all known items, equally likely, as the other half of the pairs. That is a least-squares
    problem, solved exactly. With z = items - mean, C their covariance and β = bias - mean, a history of n items has

        (Σ z_i z_iᵀ + n C + 4 n ridge I) u = Σ (2 - β_i) z_i - n E[β z].

    Repetitions and items without training interactions, which are not ``known``, do not count in a history. Shapes are
    (n_items, d), of bias and known (n_items,), of the result (n_histories, d); it is zero without known items.
    """
    mean, base = items[known].mean(axis=0), bias[known].mean()
    z, beta = np.where(known[:, None], items - mean, 0), np.where(known, bias - base, 0)
    spread = z.T @ z / known.sum() + 4 * ridge * np.eye(items.shape[1])
    drift = beta @ z / known.sum()
    histories = binary(inputs.select(known[inputs.item]))
    users = np.zeros((inputs.n_users, items.shape[1]))
    for row in np.flatnonzero(np.diff(histories.indptr)):
        taken = histories.indices[histories.indptr[row] : histories.indptr[row + 1]]
        mine = z[taken]
        users[row] = np.linalg.solve(mine.T @ mine + len(taken) * spread, (2 - beta[taken]) @ mine - len(taken) * drift)
    return users


class EASE(Baseline):
    """``history @ B``, B from ridge regression with a zero diagonal (Steck 2019, arXiv 1905.03375)."""

    name = "EASE"
    GRID = tuple(
        {"regularisation": value} for value in (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
    )

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Count co-occurrences; DataError if more than 20,000 items have training interactions."""
        counts = ease.EASECounts.of(task.training)

        def score(weights: Scores, inputs: Interactions) -> Scores:
            scores = np.zeros((inputs.n_users, inputs.n_items), np.float32)
            scores[:, counts.columns] = binary(inputs)[:, counts.columns] @ weights
            return scores

        return lambda setting: partial(score, counts.weights(setting["regularisation"]))


_CASES = 5000
"""That choose how a history's content is read; a thousand of validation would leave it to chance."""


class ContentKNN(Baseline):
    """The cosine between an item's content vector and the decayed mean of those of the last ``last`` items.

    No interactions are read. Items that nobody has taken are scored like all others; only an item without content
    cannot be scored.
    """

    name = "content kNN"
    GRID = content_knn.GRID

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Take the vectors; DataError if the suite has no content."""
        vectors = self._vectors(task)
        return lambda setting: content_knn.ContentKNN(vectors, setting["decay"], setting["last"]).scores

    def scorable(self, task: Task) -> Mask:
        """Items with content, shape (n_items,)."""
        return np.asarray(self._vectors(task).any(axis=1), bool)

    def telling(self, task: Task) -> ValidationCases:
        """First interactions after anything else, until there are 5,000 cases in all: nothing of them is in content."""
        return taken(task.training, known_items(task.training), 0, max(0, _CASES - len(sample(task.validation))))

    def _vectors(self, task: Task) -> Scores:
        if task.content is None:
            raise DataError("content kNN needs content vectors, and there are none", "run `molar embed CATALOG` first")
        return task.content


class LexicalKNN(ContentKNN):
    """The same with TF-IDF of titles, descriptions and attributes along its principal axes: no encoder at all.

    Latent semantic analysis (Deerwester et al. 1990), which any encoder of texts has to beat.
    """

    name = "TF-IDF kNN"

    def _vectors(self, task: Task) -> Scores:
        if task.words is None:
            raise DataError("TF-IDF kNN needs the catalogue's words, and there are none", "run `molar embed CATALOG`")
        return task.words


_MODELS = (
    Popularity, RecentPopularity, PersonalFrequency, ItemKNN, OrderedCooccurrence, ALS, BPR, EASE, ContentKNN,
    LexicalKNN, SASRec,
)  # fmt: skip


def baselines() -> dict[str, Callable[[], Model]]:
    """Makes a baseline with its standard grid of settings, by the name that tables and suites use."""
    return {model.name: model for model in _MODELS}
