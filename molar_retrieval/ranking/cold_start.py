"""One list of known items and newcomers, whose scores were never meant to be compared.

An item without interactions is scored by its content alone, which ranks it among its like only. Newcomers therefore
get a fixed share of the first ten places, the last of them. These are theirs: a second stage, which learns from what
known items were taken, moves known items among their own places only.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
TOP = 10
"""Length of the top of a list that known items and newcomers share; both are to be searched at least so far."""


class Merged(NamedTuple):
    """The merged list, best first.

    Attributes:
        newcomer: From which of the two lists each place comes.
        place: Where it stood in that list, from 0.
        score: In the merged list.
        lift: What of it was added; 0 for a known item.
    """

    newcomer: npt.NDArray[np.bool_]
    place: npt.NDArray[np.int64]
    score: Array
    lift: Array


def merge(known: Array, newcomers: Array, slots: int) -> Merged:
    """Merge two ranked lists so that newcomers get the last ``slots`` of the first ten places.

    Their scores there are spread between those of the known items around them; all further newcomers are lifted by as
    much as the last of them. Of fewer newcomers than slots all are in the first ten, of fewer known items all stand
    before them, and known items keep at least one of ten places. With no slots the best newcomer comes behind the
    tenth known item, level with it. Without known items nothing is lifted.

    Args:
        known: Scores of known items, best first; at least the first ten, or all.
        newcomers: Scores of newcomers, likewise.
        slots: 0 to 10.
    """
    known, newcomers = np.asarray(known, np.float64), np.asarray(newcomers, np.float64)
    first = min(slots, TOP - 1, len(newcomers))
    before = min(TOP - first, len(known))
    lifted = newcomers.copy()
    if before and len(newcomers):
        level, last = known[before - 1], max(0, first - 1)
        if first and len(known) > before:
            lifted[:first] = level - (level - known[before]) * np.arange(1, first + 1) / (first + 1)
        else:
            first, last, lifted[0] = 0, 0, level
        # From there on, as `score + (level - anchor)` may round to a bit above it.
        lifted[last + 1 :] = lifted[last] + (newcomers[last + 1 :] - newcomers[last])
    else:
        first = 0
    score = np.concatenate([known, lifted])
    newcomer = np.arange(len(score)) >= len(known)
    place = np.concatenate([np.arange(len(known)), np.arange(len(newcomers))])
    lift = np.concatenate([np.zeros(len(known)), lifted - newcomers])
    # Equal scores: what has a place among the first ten, then known items.
    late = np.where(newcomer, place >= first, place >= before)
    order = np.lexsort((place, newcomer, late, -score))
    return Merged(newcomer[order], place[order], score[order], lift[order])


def kept(scores: Array, moved: Array, newcomer: npt.NDArray[np.bool_]) -> Array:
    """What a second stage adds where newcomers keep their places.

    A newcomer comes between the known items that stand around its place afterwards; those before the first known item
    and behind the last one go with it.

    Args:
        scores: Of a merged list, best first, shape (C,).
        moved: What the second stage adds to each known item, best first, shape (K,).
        newcomer: Which of the list are newcomers, shape (C,), C - K of them.

    Returns:
        Shape (C,).
    """
    places = np.flatnonzero(~newcomer)
    added: Array = np.zeros(len(scores))
    if not len(places):
        return added
    added[places] = moved
    before = scores[places]
    after = -np.sort(-(before + moved))
    new = np.flatnonzero(newcomer)
    first, last = new < places[0], new > places[-1]
    added[new] = np.interp(new, places, after) - scores[new]
    added[new[first]], added[new[last]] = after[0] - before[0], after[-1] - before[-1]
    return added
