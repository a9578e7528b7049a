"""One list of known items and cold ones, whose scores were never meant to be compared.

An item without interactions is scored by its content alone, which ranks it among its like only. Cold items therefore
get places of their own among the first ten, the last of which is the tenth. These are theirs: a second stage, which
learns from what known items were taken, moves known items among their own places only. The rule itself is
:func:`shared`.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.places import TOP, Places

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


class Shared(NamedTuple):
    """How the first ten places are shared with f cold items."""

    places: Places  # of the cold ones
    after: Rows  # how many known items stand before each of them, shape (f,)
    number: Rows  # which one each is between the same two known items, from 1, shape (f,)
    parts: Rows  # into how many parts they divide the gap, shape (f,)
    order: Rows  # the ten, known items first, as they stand, shape (10,)

    @property
    def mixed(self) -> bool:
        """Whether known items stand behind cold ones."""
        return len(self.places) > 0 and self.places[0] + len(self.places) <= TOP

    def scores(self, before: Array, behind: Array) -> Array:
        """Of the cold items, spread evenly between those of the known ones before and behind, shapes (..., f)."""
        scores: Array = before - (before - behind) * self.number / self.parts
        return scores

    def within(self, k: int) -> int:
        """How many of the cold ones are among the first ``k``."""
        return sum(place <= k for place in self.places)


def shared(places: Places, cold: int) -> Shared:
    """The rule for cold items: they have these ``places``; of fewer ``cold`` ones than places all have one, the last.

    It is for lists in which known items fill the other places and the one behind. Where they are too few, they all
    stand before the cold ones.
    """
    return _shared(places[max(0, len(places) - cold) :])


@cache
def _shared(places: Places) -> Shared:
    own, number = np.array(places, np.int64), np.arange(1, len(places) + 1)
    after = own - number
    known = np.array([place for place in range(1, TOP + 1) if place not in places], np.int64)
    order = np.argsort(np.concatenate([known, own]))
    return Shared(places, after, number - np.searchsorted(after, after), (after[:, None] == after).sum(1) + 1, order)


def merge(known: Array, cold: Array, places: Places) -> tuple[Rows, Array]:
    """Merge two ranked lists: cold items that have a place are :func:`shared` between the known ones around it.

    All further ones are lifted by as much as the last of them; without any, the best is level with the tenth known item
    or the last one. Without known items nothing is lifted. Scores are best first, at least the first ten of each kind
    or all. Returns the order of both, cold items numbered after the known ones, and what is added to the score of each
    as numbered.
    """
    known, cold = np.asarray(known, np.float64), np.asarray(cold, np.float64)
    count, own, lifted = len(known), shared(places, len(cold)), cold.copy()
    first = len(own.places) if count > TOP - len(own.places) else 0
    if count and len(cold):
        anchor = max(0, first - 1)
        lifted[: anchor + 1] = own.scores(known[own.after - 1], known[own.after]) if first else known[:TOP][-1]
        # From there on, as `score + (level - anchor)` may round to a bit above it.
        lifted[anchor + 1 :] = lifted[anchor] + (cold[anchor + 1 :] - cold[anchor])
    scores, place = np.concatenate([known, lifted]), np.arange(count + len(cold))
    is_cold, turn = place >= count, np.full(len(place), TOP)
    if first:
        turn[np.concatenate([place[: TOP - first], place[count : count + first]])[own.order]] = np.arange(TOP)
    # Behind the places that are given away, of equal scores known items come first.
    order = np.lexsort((place, is_cold, -scores, turn))
    return order, np.concatenate([np.zeros(count), lifted - cold])


def lifted(scores: Array, cold: Mask, allowed: Mask, places: Places) -> Array:
    """Scores, shape (users, n_items), with cold items in their places as in :func:`merge`; they are overwritten.

    ``allowed``, of the same shape, are the items that may be recommended to a user.
    """
    new = np.flatnonzero(cold)
    if not len(new):
        return scores
    known, _ = _best(np.where(allowed & ~cold, scores, -np.inf), TOP)
    guessed, at = _best(np.where(allowed[:, new], scores[:, new], -np.inf), max(1, len(places)))
    users = np.flatnonzero(np.isfinite(known[:, 0]) & np.isfinite(guessed[:, 0]))
    count = np.isfinite(known).sum(axis=1)
    number = np.minimum(np.isfinite(guessed).sum(axis=1), len(places))
    number[count <= TOP - number] = 0
    for first in np.unique(number[users]).tolist():
        some = users[number[users] == first]
        if first:
            own = shared(places, first)
            placed = own.scores(known[some][:, own.after - 1], known[some][:, own.after]).astype(scores.dtype)
        else:
            # Just below the known item, which keeps its place, however the sum is rounded.
            placed = np.nextafter(known[some, count[some] - 1], scores.dtype.type(-np.inf))[:, None]
        here, anchor = np.ix_(some, new), max(0, first - 1)
        scores[here] = placed[:, -1:] + (scores[here] - guessed[some, anchor][:, None])
        scores[some[:, None], new[at[some, :first]]] = placed[:, :first]
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
