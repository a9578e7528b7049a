"""Items without interactions: what is guessed of them from their content, and room in the lists.

A newcomer's block of the collaborative space is predicted from its content by ridge regression on the known items, its
popularity likewise: the content-to-collaborative maps of cold-start recommenders (DropoutNet, Volkovs et al. 2017;
Heater, Zhu et al. 2020) in closed form. Its content is its own. Such guesses are far less certain than the scores of
known items, so in one ranking newcomers would never be shown, or would drive out what is known to fit. They are
therefore ranked among themselves, and get the last ``slots`` of the first ten places.

How the parts are weighted is learned from a tenth of the known items that plays newcomers: the content tower has read
them in histories but never had to predict them, and their blocks are predicted from the others'.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.alignment.validation import Cases, drawn
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.ranking.cold_start import TOP

Matrix = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
WITHHELD = 0.1
"""Share of the known items that plays newcomers."""
_MOST_CASES = 4000
_MOST_READ = 10_000_000
"""Interactions in the histories of these cases, in all."""
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


def guessed(
    features: Matrix, vectors: Matrix, counts: npt.NDArray[np.integer], known: Mask, withheld: Mask
) -> tuple[Matrix, Predictor]:
    """What the others tell of the withheld items, and the map that does so, fitted on all known ones.

    Args:
        features: Of all items, shape (n_items, f).
        vectors: Likewise, shape (n_items, d).
        counts: Training interactions, shape (n_items,).
        known: Who has any, shape (n_items,).
        withheld: Known items that are not to tell of themselves, shape (n_items,).

    Returns:
        Guesses for the withheld items, shape (w, d), and the predictor, whose λ is the one that guesses them best.
    """
    rest, weight = known & ~withheld, (counts / (counts + _PRIOR))[withheld]
    tried: dict[float, tuple[float, Matrix]] = {}
    for regularisation in _REGULARISATIONS:
        guess = ridge(features[rest], vectors[rest], counts[rest], regularisation)(features[withheld])
        tried[regularisation] = float((((vectors[withheld] - guess) ** 2).sum(axis=1) * weight).sum()), guess
    best = min(tried, key=lambda regularisation: tried[regularisation][0])
    return tried[best][1], ridge(features[known], vectors[known], counts[known], best)


def taken(log: InteractionLog, withheld: Mask, seed: int) -> Cases:
    """Training interactions with withheld items, at most 4,000 of them: first ones, after anything else.

    There are fewer where users have so many interactions that the histories would fill memory.

    Args:
        log: Training interactions.
        withheld: Shape (n_items,).
        seed: Of the draw.
    """
    pair = log.user.astype(np.int64) * log.n_items + log.item
    first = np.zeros(len(log), bool)
    first[np.unique(pair, return_index=True)[1]] = True
    follows = np.arange(len(log)) > log.offsets[log.user]
    rows = np.flatnonzero(withheld[log.item] & first & follows)
    random = rng.generator(seed, "newcomers")
    rows = rows[drawn(len(rows), _MOST_CASES, random)]
    read = int((rows - log.offsets[log.user[rows]]).sum())
    if read > _MOST_READ:
        rows = rows[drawn(len(rows), max(1, len(rows) * _MOST_READ // read), random)]
    targets = log.item[rows].astype(np.int64)
    return Cases(log.before(rows), np.arange(len(rows)), targets, withheld, log.timestamp[rows])


def among(cases: Cases, items: Mask) -> Cases:
    """The cases of a catalogue that has only some items, all targets among them, in their order.

    Args:
        cases: C cases.
        items: Shape (n_items,).
    """
    histories, place, count = cases.histories(), np.cumsum(items) - 1, int(items.sum())
    had = histories.select(items[histories.item])
    log = replace(had, items=IdMap([str(n) for n in range(count)]), item=place[had.item].astype(np.int32))
    return Cases(log, np.arange(len(cases)), place[cases.targets], np.ones(count, bool), cases.times)


def withheld_items(known: Mask, seed: int) -> Mask:
    """A random tenth of the known items, shape (n_items,)."""
    return known & (rng.generator(seed, "withheld items").random(len(known)) < WITHHELD)


def parity(newcomer: npt.NDArray[np.bool_], most: int = 3) -> int:
    """How many of ten places newcomers would have if their chances were those of known items, ``most`` at the most."""
    return min(most, round(10 * float(newcomer.mean()))) if len(newcomer) else 0


def lifted(scores: Matrix, newcomer: npt.NDArray[np.bool_], allowed: npt.NDArray[np.bool_], slots: int) -> Matrix:
    """Scores in which newcomers have the last ``slots`` of the first ten places, the rule of a query for all at once.

    Args:
        scores: Shape (users, n_items); overwritten.
        newcomer: Whether an item is one, shape (n_items,).
        allowed: Whether it may be recommended to a user, shape (users, n_items).
        slots: 0 to 10.
    """
    new = np.flatnonzero(newcomer)
    if not len(new):
        return scores
    known, _ = _best(np.where(allowed & ~newcomer, scores, -np.inf), TOP)
    guessed, places = _best(np.where(allowed[:, new], scores[:, new], -np.inf), max(1, min(slots, TOP - 1)))
    users = np.flatnonzero(np.isfinite(known[:, 0]) & np.isfinite(guessed[:, 0]))
    known, guessed, places, each = known[users], guessed[users], new[places[users]], np.arange(len(users))
    n_known = np.isfinite(known).sum(axis=1)
    first = np.minimum(np.isfinite(guessed).sum(axis=1), slots)
    before = np.minimum(TOP - first, n_known)
    level = known[each, before - 1]
    spread = (first > 0) & (n_known > before)
    step = np.where(spread, (level - known[each, np.minimum(before, n_known - 1)]) / (first + 1), np.float32(0))
    # Where they do not spread, just below the known item, which keeps its place, however the sum is rounded.
    base = np.where(spread, level - step * first, np.nextafter(level, np.float32(-np.inf)))
    anchor = guessed[each, np.where(spread, first - 1, 0)]
    scores[np.ix_(users, new)] = base[:, None] + (scores[np.ix_(users, new)] - anchor[:, None])
    for number in range(places.shape[1]):
        some = spread & (number < first)
        scores[users[some], places[some, number]] = (level - step * (number + 1))[some]
    return scores


def _best(scores: Matrix, count: int) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """The best scores of each row, best first, and where they stand, shapes (rows, at most ``count``)."""
    count = min(count, scores.shape[1])
    places = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    return np.take_along_axis(scores, places, axis=1), places
