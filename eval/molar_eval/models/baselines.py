"""The baselines, each with its standard grid of settings: counts, closed forms and the library `implicit`."""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from threadpoolctl import threadpool_limits

from molar_eval.cases import Mask, Scores
from molar_eval.models.base import Baseline, EvaluationTask, Model, Scoring, Setting, sample
from molar_eval.models.sasrec import SASRec
from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions, to_csr
from molar_retrieval.errors import DataError
from molar_retrieval.models import als, content_knn, ease, popularity
from molar_retrieval.models.item_item import ItemItemWeights, binary, known_items, reach
from molar_retrieval.models.popularity import DAY, HALF_LIVES
from molar_retrieval.models.sequential import cooccurrence, transitions
from molar_retrieval.models.validation import ValidationCases, taken
from molar_retrieval.workspace.settings import ALSSettings

_CONTENT_CASES = 5000
"""That choose how content is read from a history; a thousand of validation would leave it to chance."""


class Popularity(Baseline):
    """The number of an item's interactions; there is nothing to choose."""

    name = "popularity"
    GRID = ({},)

    def prepare(self, data: EvaluationTask, seed: int) -> Callable[[Setting], Scoring]:
        """Count the training interactions of each item."""
        counts = np.bincount(data.training.item, minlength=data.training.n_items).astype(np.float32)
        return lambda setting: lambda inputs: np.tile(counts, (inputs.n_users, 1))


class RecentPopularity(Baseline):
    """The number of an item's interactions before the day of the case, each one's weight halving with its age."""

    name = "recent popularity"
    GRID = tuple({"half_life_days": days} for days in HALF_LIVES if np.isfinite(days))

    def prepare(self, data: EvaluationTask, seed: int) -> Callable[[Setting], Scoring]:
        """Check that the log has times: DataError if all training interactions have the same one."""
        if data.training.timestamp.min() == data.training.timestamp.max():
            raise DataError("recent popularity needs times, and the log has none", "leave this model out of the suite")
        return lambda setting: popularity.Popularity.fit(data.training, setting["half_life_days"]).scores


class PersonalFrequency(Baseline):
    """How often a user took each item, a time's weight halving with its age, then popularity.

    Hard to beat where users buy the same again: without decay it is GP-TopFreq (Li et al. 2023, doi:10.1145/3587153);
    decay is as in TIFU-KNN (Hu et al. 2020, doi:10.1145/3397271.3401066).
    """

    name = "personal frequency"
    GRID = tuple({"half_life_days": days} for days in (15.0, 30.0, 60.0, 120.0, 240.0, 480.0, None))

    def prepare(self, data: EvaluationTask, seed: int) -> Callable[[Setting], Scoring]:
        """Count popularity; DataError where seen items are hidden, as nothing else is scored."""
        if data.seen == "hide":
            raise DataError("personal frequency ranks what people had, which is hidden here", "show seen items")
        counts = np.bincount(data.training.item, minlength=data.training.n_items)
        popularity = (1e-6 * counts / counts.max()).astype(np.float32)  # less than a single interaction of the user's
        end = int(data.training.timestamp.max())

        def score(half_life: float, inputs: Interactions) -> Scores:
            asked = np.full(inputs.n_users, end) if inputs.asked_at is None else inputs.asked_at
            days = np.maximum(asked[inputs.user] - inputs.timestamp, 0) / DAY
            scores = np.tile(popularity, (inputs.n_users, 1))
            np.add.at(scores, (inputs.user, inputs.item), np.exp2(-days / half_life).astype(np.float32))
            return scores

        return lambda setting: partial(score, setting["half_life_days"] or np.inf)


class ItemKNN(Baseline):
    """The sum of an item's similarities to those of a history (Sarwar et al. 2001, doi:10.1145/371920.372071)."""

    name = "item-kNN"
    GRID = tuple(
        {"weighting": weighting, "shrink": shrink, "n_neighbors": count}
        for weighting, shrinks in (("cosine", (0, 20, 100)), ("tfidf", (0, 20, 100)), ("bm25", (0,)))
        for shrink in shrinks
        for count in (2, 5, 20, 200, 1000)
    )

    def prepare(self, data: EvaluationTask, seed: int) -> Callable[[Setting], Scoring]:
        """Settings share nothing."""

        def fit(setting: Setting) -> Scoring:
            similarity = ease.item_knn(data.training, **setting)
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

    def prepare(self, data: EvaluationTask, seed: int) -> Callable[[Setting], Scoring]:
        """Counts are shared between settings with the same window and decay that follow each other."""
        followed = lru_cache(maxsize=1)(partial(transitions, data.training))

        def fit(setting: Setting) -> Scoring:
            counts = followed(setting["window"], setting["decay"])
            weights = cooccurrence(data.training, counts, setting["shrink"], ordered=True)
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

    def prepare(self, data: EvaluationTask, seed: int) -> Callable[[Setting], Scoring]:
        """Every setting starts from the same random state."""
        start = rng.derive_seed(seed, "ALS") % 2**31

        def fit(setting: Setting) -> Scoring:
            settings = ALSSettings(**setting, seed=start)
            items = als.fit(data.training, settings).items
            return lambda inputs: fold_in_als(inputs, items, settings) @ items.T

        return fit


def fold_in_als(inputs: Interactions, items: Scores, settings: ALSSettings) -> Scores:
    """The ALS factors of users with these histories, shape (n_histories, factors); zero for an empty history."""
    from implicit.als import AlternatingLeastSquares

    with threadpool_limits(limits=1, user_api="blas"):
        chosen = settings.model_dump(include={"factors", "regularization", "alpha"})
        solver = AlternatingLeastSquares(**chosen)
        solver.item_factors = items
        users: Scores = solver.recalculate_user(np.arange(inputs.n_users), to_csr(inputs))
    return users


class EASE(Baseline):
    """``history @ B``, B from ridge regression with a zero diagonal (Steck 2019, arXiv 1905.03375)."""

    name = "EASE"
    GRID = tuple(
        {"regularisation": value} for value in (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
    )

    def prepare(self, data: EvaluationTask, seed: int) -> Callable[[Setting], Scoring]:
        """Count co-occurrences; DataError if more than 20,000 items have training interactions."""
        counts = ease.EASECounts.of(data.training)

        def score(weights: Scores, inputs: Interactions) -> Scores:
            scores = np.zeros((inputs.n_users, inputs.n_items), np.float32)
            scores[:, counts.columns] = binary(inputs)[:, counts.columns] @ weights
            return scores

        return lambda setting: partial(score, counts.weights(setting["regularisation"]))


class ContentKNN(Baseline):
    """The cosine between an item's content vector and the decayed mean of those of the last ``last`` items.

    No interactions are read. Items that nobody has taken are scored like all others; only an item without content
    cannot be scored.
    """

    name = "content kNN"
    GRID = content_knn.GRID

    def prepare(self, data: EvaluationTask, seed: int) -> Callable[[Setting], Scoring]:
        """Take the vectors; DataError if the suite has no content."""
        vectors = self._vectors(data)
        return lambda setting: content_knn.ContentKNN(vectors, setting["decay"], setting["last"]).scores

    def scorable(self, data: EvaluationTask) -> Mask:
        """Items with content, shape (n_items,)."""
        return np.asarray(self._vectors(data).any(axis=1), bool)

    def more_cases(self, data: EvaluationTask) -> ValidationCases:
        """First interactions after anything else, until there are 5,000 cases in all: nothing of them is in content."""
        most = max(0, _CONTENT_CASES - len(sample(data.validation)))
        return taken(data.training, known_items(data.training), 0, most)

    def _vectors(self, data: EvaluationTask) -> Scores:
        if data.content is None:
            raise DataError("content kNN needs content vectors, and there are none", "run `molar embed CATALOG` first")
        return data.content


class LexicalKNN(ContentKNN):
    """The same with TF-IDF of titles, descriptions and attributes along its principal axes: no encoder at all.

    Latent semantic analysis (Deerwester et al. 1990), which any encoder of texts has to beat.
    """

    name = "TF-IDF kNN"

    def _vectors(self, data: EvaluationTask) -> Scores:
        if data.words is None:
            raise DataError("TF-IDF kNN needs the catalogue's words, and there are none", "run `molar embed CATALOG`")
        return data.words


_MODELS = (
    Popularity, RecentPopularity, PersonalFrequency, ItemKNN, OrderedCooccurrence, ALS, EASE, ContentKNN, LexicalKNN,
    SASRec,
)  # fmt: skip


def baselines() -> dict[str, Callable[[], Model]]:
    """Makes a baseline with its standard grid of settings, by the name that tables and suites use."""
    return {model.name: model for model in _MODELS}
