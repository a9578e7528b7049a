"""One list of known items and newcomers, whose scores were never meant to be compared.

An item without interactions is scored by its content alone, which ranks it among its like only. All of an answer's
newcomers are therefore lifted by one number that gives them a fixed share of the first ten places. These are theirs: a
second stage, which learns from what known items were taken, moves known items among their own places only.
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
    """Merge two ranked lists so that newcomers get ``slots`` of the first ten places.

    The ``slots``-th best newcomer comes level with the ``10 - slots``-th best known item, and stands behind it; with no
    slots the best newcomer comes level with the tenth known item. Where a list is shorter its last item counts, so
    that of fewer newcomers than slots all are in the first ten; without known items nothing is lifted. Known items keep
    at least one of ten places.

    Args:
        known: Scores of known items, best first; at least the first ten, or all.
        newcomers: Scores of newcomers, likewise.
        slots: 0 to 10.
    """
    known, newcomers = np.asarray(known, np.float64), np.asarray(newcomers, np.float64)
    anchor = newcomers[min(max(1, slots), len(newcomers)) - 1] if len(newcomers) else 0.0
    level = known[min(max(1, TOP - slots), len(known)) - 1] if len(known) else anchor
    # From the level on, as `score + (level - anchor)` may round to a bit above it.
    lifted = level + (newcomers - anchor)
    score = np.concatenate([known, lifted])
    newcomer = np.arange(len(score)) >= len(known)
    place = np.concatenate([np.arange(len(known)), np.arange(len(newcomers))])
    lift = np.concatenate([np.zeros(len(known)), lifted - newcomers])
    order = np.lexsort((place, newcomer, -score))
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
