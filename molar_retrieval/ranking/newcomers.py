"""One list of known items and newcomers, whose scores were never meant to be compared.

An item without interactions is scored by its content alone, which ranks it among its like only. All of an answer's
newcomers are therefore lifted by one number that gives them a fixed share of the first ten places.
"""

from collections.abc import Sequence
from typing import NamedTuple

TOP = 10
"""Length of the top of a list that known items and newcomers share; both are to be searched at least so far."""


class Placed(NamedTuple):
    """One place of the merged list.

    Attributes:
        newcomer: From which of the two lists it comes.
        place: Where it stood in that list, from 0.
        score: In the merged list.
        lift: What of it was added; 0 for a known item.
    """

    newcomer: bool
    place: int
    score: float
    lift: float


def merge(known: Sequence[float], newcomers: Sequence[float], slots: int) -> list[Placed]:
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
    ranked = [Placed(False, place, score, 0.0) for place, score in enumerate(known)]
    if not newcomers:
        return ranked
    anchor = newcomers[min(max(1, slots), len(newcomers)) - 1]
    level = known[min(max(1, TOP - slots), len(known)) - 1] if known else anchor
    for place, score in enumerate(newcomers):
        # From the level on, as `score + (level - anchor)` may round to a bit above it.
        lifted = level + (score - anchor)
        ranked.append(Placed(True, place, lifted, lifted - score))
    return sorted(ranked, key=lambda item: (-item.score, item.newcomer))
