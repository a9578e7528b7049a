"""Items without interactions in the lists of many users at once."""

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.cold_start import TOP

Matrix = npt.NDArray[np.float32]


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
