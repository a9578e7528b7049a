"""Items without interactions: a place in the space made from their content, and room in the lists.

A newcomer's block of the collaborative space is predicted from its content by ridge regression on the known items, its
popularity likewise: the content-to-collaborative maps of cold-start recommenders (DropoutNet, Volkovs et al. 2017;
Heater, Zhu et al. 2020) in closed form. Its content is its own. Such guesses are far less certain than the scores of
known items, so in one ranking newcomers would never be shown, or would drive out what is known to fit. They are
therefore ranked among themselves, and get ``slots`` of the first ten places.

How the parts are weighted is learned from known items that are treated as newcomers, fold by fold, so that no item's
own interactions help to predict it. Where there is a content tower it is asked about one fold only, whose items it has
read in histories but never had to predict.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.alignment.combine import FIT_CASES, fit_logit
from molar_retrieval.alignment.validation import Cases

Matrix = npt.NDArray[np.float32]
FOLDS = 10
WITHHELD = 0
"""The fold that the content tower never has to tell from others in training, so that it can be asked about it."""
_REGULARISATIONS = (1.0, 10.0, 100.0)
_PRIOR = 5.0
"""Interactions at which an item counts half in the regression."""


@dataclass(frozen=True)
class Predictor:
    """A ridge map from content features to vectors.

    Attributes:
        matrix: Shape (f, d).
        mean: Shape (d,).
    """

    matrix: Matrix
    mean: Matrix

    def __call__(self, features: Matrix) -> Matrix:
        """Vectors of items by their content, shapes (n, f) → (n, d)."""
        result: Matrix = features @ self.matrix + self.mean
        return result


def ridge(features: Matrix, vectors: Matrix, counts: npt.NDArray[np.integer], regularisation: float) -> Predictor:
    """Fit the map on items that people took; those taken often count more.

    Args:
        features: Shape (n, f).
        vectors: Shape (n, d).
        counts: Training interactions of each item, shape (n,).
        regularisation: λ.
    """
    weight = (counts / (counts + _PRIOR)).astype(np.float64)[:, None]
    mean = (vectors * weight).sum(axis=0) / max(1e-12, float(weight.sum()))
    gram = (features * weight).T @ features + regularisation * np.eye(features.shape[1])
    matrix = np.linalg.solve(gram, (features * weight).T @ (vectors - mean))
    return Predictor(matrix.astype(np.float32), mean.astype(np.float32))


def cross_fitted(
    features: Matrix, vectors: Matrix, counts: npt.NDArray[np.integer], fold: npt.NDArray[np.integer]
) -> tuple[Matrix, float]:
    """Each item's vector predicted from the other folds, and the regularisation that predicts best.

    Args:
        features: Of known items, shape (n, f).
        vectors: Their vectors, shape (n, d).
        counts: Their training interactions, shape (n,).
        fold: Of each item, shape (n,).

    Returns:
        Predictions, shape (n, d), and λ.
    """
    best: tuple[float, Matrix, float] | None = None
    weight = counts / (counts + _PRIOR)
    for regularisation in _REGULARISATIONS:
        predicted = np.zeros_like(vectors)
        for number in np.unique(fold):
            rest = fold != number
            predictor = ridge(features[rest], vectors[rest], counts[rest], regularisation)
            predicted[~rest] = predictor(features[~rest])
        error = float((((vectors - predicted) ** 2).sum(axis=1) * weight).sum())
        if best is None or error < best[0]:
            best = error, predicted, regularisation
    if best is None:
        raise ValueError("no regularisation to try")
    return best[1], best[2]


def newcomer_weights(
    cases: Cases,
    users: Mapping[str, Matrix],
    items: Mapping[str, Matrix],
    fold: npt.NDArray[np.integer],
    asked: Collection[int],
    seed: int,
) -> dict[str, float]:
    """Weights of the parts among newcomers: known items in the place of newcomers, ranked within their fold.

    Args:
        cases: Validation cases.
        users: User vectors of the cases by part, shape (C, d).
        items: Item vectors by part, each made without the item's own interactions, shape (n_items, d).
        fold: Of each item, shape (n_items,), -1 where it is no known item.
        asked: The folds that are ranked.
        seed: Of the sampling.

    Returns:
        By part; all 0 where no case has a target in these folds.
    """
    chosen_rows = np.flatnonzero(np.isin(fold[cases.targets], list(asked)))
    if len(chosen_rows) > FIT_CASES * 2:
        chosen_rows = np.sort(rng.generator(seed, "newcomers").choice(chosen_rows, FIT_CASES * 2, replace=False))
    tables, targets = [], []
    for number in asked:
        rows, columns = chosen_rows[fold[cases.targets[chosen_rows]] == number], np.flatnonzero(fold == number)
        place = np.full(len(fold), -1)
        place[columns] = np.arange(len(columns))
        chosen = cases.select(rows)
        for block in chosen.blocks():
            hidden, target = chosen.hidden(block)[:, columns], place[chosen.targets[block]]
            scores = np.stack([users[name][rows[block]] @ items[name][columns].T for name in users], axis=-1)
            scores[hidden] = np.nan
            right = ~hidden[np.arange(len(target)), target]
            tables.append(scores[right].astype(np.float32))
            targets.append(target[right])
    if not sum(map(len, targets)):
        return dict.fromkeys(users, 0.0)
    return dict(zip(users, fit_logit(tables, targets).tolist(), strict=True))


def folds(known: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[np.int64]:
    """A random fold for each known item, -1 for the others."""
    fold = rng.generator(seed, "newcomer folds").integers(0, FOLDS, len(known))
    return np.where(known, fold, -1)


def parity(newcomer: npt.NDArray[np.bool_], most: int = 3) -> int:
    """How many of ten places newcomers would have if their chances were those of known items, ``most`` at the most."""
    return min(most, round(10 * float(newcomer.mean()))) if len(newcomer) else 0


def lifted(scores: Matrix, newcomer: npt.NDArray[np.bool_], allowed: npt.NDArray[np.bool_], slots: int) -> Matrix:
    """Scores in which newcomers have ``slots`` of the first ten places, the rule of a query for all items at once.

    Args:
        scores: Shape (users, n_items); overwritten.
        newcomer: Whether an item is one, shape (n_items,).
        allowed: Whether it may be recommended to a user, shape (users, n_items).
        slots: 0 to 10.
    """
    new = np.flatnonzero(newcomer)
    if not len(new):
        return scores
    known = np.where(allowed & ~newcomer, scores, -np.inf)
    guessed = np.where(allowed[:, new], scores[:, new], -np.inf)
    # Just below the known item, which keeps its place, however the sum is rounded.
    level = np.nextafter(_nth(known, max(1, 10 - slots)), np.float32(-np.inf))[:, None]
    scores[:, new] = level + (scores[:, new] - _nth(guessed, max(1, slots))[:, None])
    return scores


def _nth(scores: Matrix, place: int) -> Matrix:
    """The ``place``-th best finite score of each row, the worst one where there are fewer, 0 where there is none."""
    place = min(place, scores.shape[1])
    best = -np.sort(np.partition(-scores, place - 1, axis=1)[:, :place], axis=1)
    finite = np.isfinite(best).sum(axis=1)
    last = best[np.arange(len(best)), np.maximum(finite, 1) - 1]
    return np.where(finite > 0, last, 0).astype(np.float32)
