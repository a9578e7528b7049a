"""One list of known items and cold ones, whose scores were never meant to be compared.

An item without interactions is scored by its content alone, which ranks it among its like only. Cold items therefore
get a fixed share of the first ten places, the last of them. These are theirs: a second stage, which learns from what
known items were taken, moves known items among their own places only. The rule itself is :func:`head`.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
TOP = 10  # length of the top of a list that known and cold items share; both are to be searched at least so far


class Head(NamedTuple):
    """How some lists begin, one number for each."""

    before: Rows  # known items that stand before the first cold one
    first: Rows  # cold items spread between the known ones around them; 0: the best is level with the last before it
    level: Array  # the score of that last one
    gap: Array  # from there to the next known item; 0 where none is spread


def head(known: Array, cold: Rows, slots: int) -> Head:
    """The rule for cold items: they get the last ``slots`` (0 to 10) of the first ten places.

    Of fewer cold items than slots all are in the first ten, of fewer known items all stand before them, and known items
    keep at least one of ten places. ``known`` are the best scores of U users, best first, at most ten, then minus
    infinity, shape (U, K); ``cold`` says how many cold items there are, shape (U,).
    """
    each, count = np.arange(len(known)), np.isfinite(known).sum(axis=1)
    first = np.minimum(cold, min(slots, TOP - 1))
    before = np.minimum(TOP - first, count)
    level = known[each, before - 1]
    spread = (first > 0) & (count > before)
    gap = np.where(spread, level - known[each, np.minimum(before, count - 1)], known.dtype.type(0))
    return Head(before, np.where(spread, first, 0), level, gap)


def merge(known: Array, cold: Array, slots: int) -> tuple[Rows, Array]:
    """Merge two ranked lists: the cold items that have a place are spread between the known ones around them.

    All further ones are lifted by as much as the last of them. Without known items nothing is lifted. Scores are best
    first, at least the first ten of each kind or all. Returns the order of both, cold items numbered after the known
    ones, and what is added to the score of each as numbered.
    """
    known, cold = np.asarray(known, np.float64), np.asarray(cold, np.float64)
    count, first, before, lifted = len(known), 0, min(TOP, len(known)), cold.copy()
    if count and len(cold):
        own = head(known[None, :TOP], np.array([len(cold)]), slots)
        first, before, level, gap = int(own.first[0]), int(own.before[0]), own.level[0], own.gap[0]
        lifted[:first] = level - gap * np.arange(1, first + 1) / (first + 1)
        last = max(0, first - 1)
        lifted[last] = lifted[last] if first else level
        # From there on, as `score + (level - anchor)` may round to a bit above it.
        lifted[last + 1 :] = lifted[last] + (cold[last + 1 :] - cold[last])
    scores, place = np.concatenate([known, lifted]), np.arange(count + len(cold))
    is_cold = place >= count
    # Equal scores: what has a place among the first ten, then known items.
    late = np.where(is_cold, place >= count + first, place >= before)
    order = np.lexsort((place, is_cold, late, -scores))
    return order, np.concatenate([np.zeros(count), lifted - cold])


def lifted(scores: Array, cold: Mask, allowed: Mask, slots: int) -> Array:
    """Scores, shape (users, n_items), with cold items in their places as in :func:`merge`; they are overwritten.

    ``allowed``, of the same shape, are the items that may be recommended to a user.
    """
    new = np.flatnonzero(cold)
    if not len(new):
        return scores
    known, _ = _best(np.where(allowed & ~cold, scores, -np.inf), TOP)
    guessed, places = _best(np.where(allowed[:, new], scores[:, new], -np.inf), max(1, min(slots, TOP - 1)))
    users = np.flatnonzero(np.isfinite(known[:, 0]) & np.isfinite(guessed[:, 0]))
    guessed, places, each = guessed[users], new[places[users]], np.arange(len(users))
    own = head(known[users], np.isfinite(guessed).sum(axis=1), slots)
    spread, step = own.first > 0, own.gap / (own.first + 1)
    # Where they do not spread, just below the known item, which keeps its place, however the sum is rounded.
    base = np.where(spread, own.level - step * own.first, np.nextafter(own.level, own.level.dtype.type(-np.inf)))
    anchor = guessed[each, np.maximum(own.first - 1, 0)]
    scores[np.ix_(users, new)] = base[:, None] + (scores[np.ix_(users, new)] - anchor[:, None])
    for number in range(places.shape[1]):
        some = number < own.first
        scores[users[some], places[some, number]] = (own.level - step * (number + 1))[some]
    return scores


def _best(scores: Array, count: int) -> tuple[Array, Rows]:
    """The best scores of each row, best first, and where they stand, shapes (rows, at most ``count``)."""
    count = min(count, scores.shape[1])
    places = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    return np.take_along_axis(scores, places, axis=1), places


def kept(scores: Array, moved: Array, cold: Mask) -> Array:
    """What a second stage adds where cold items keep their places, shape (C,).

    A cold item comes between the known items that stand around its place afterwards; those before the first known item
    and behind the last one go with it. ``scores`` are of a merged list, best first, shape (C,); ``moved`` is added to
    its known items, best first, shape (K,), which are those that are not ``cold``, shape (C,).
    """
    places = np.flatnonzero(~cold)
    added: Array = np.zeros(len(scores))
    if not len(places):
        return added
    added[places] = moved
    before = scores[places]
    after = -np.sort(-(before + moved))
    new = np.flatnonzero(cold)
    first, last = new < places[0], new > places[-1]
    added[new] = np.interp(new, places, after) - scores[new]
    added[new[first]], added[new[last]] = after[0] - before[0], after[-1] - before[-1]
    return added
