"""Two lists made into one, so that the same person compares them: interleaving without bias.

The arms take turns. Each nominates its best item that is not in the list yet. Where both nominate the same it comes
next and is credited to nobody; where they differ they *contend*: both items come next, and one coin for the whole list
says whose stands first. After each turn the list has the same items whatever the coin said, so that contending items
are shown at the same places with the same chance, and whoever clicks by place alone prefers no arm. That holds list by
list and for any way in which places attract, also where the clicks of one list depend on each other.

Balanced interleaving (Joachims 2003) has the coin, but credits by counting and favours one arm where lists are shifted
against each other; team draft (Radlinski, Kurup and Joachims 2008, doi:10.1145/1458082.1458092) tosses for each turn,
credits items that both nominate to somebody by chance, and counts all items alike. Bi et al. 2022, Debiased Balanced
Interleaving at Amazon Search, doi:10.1145/3511808.3557123, keep the balanced list and credit counterfactually. The
weights here serve the same end, but are others, derived for this list: see :func:`interleave`.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log2
from typing import Literal

ArmName = Literal["control", "treatment"]


@dataclass(frozen=True, slots=True)
class Interleaved:
    """One list of two.

    Attributes:
        items: What is shown, best first.
        credits: What it counts when somebody uses an item for which the arms contended: above 0 for the treatment,
            below 0 for the control; what :meth:`ExperimentStore.record_lists` keeps. Others count for nobody.
        first: Whose items stood first.
    """

    items: tuple[str, ...]
    credits: dict[str, float]
    first: ArmName


def coin(seed: str) -> ArmName:
    """Whose items stand first, by the id of a request, or by whatever else tells lists apart and knows no ranking."""
    return ("control", "treatment")[hashlib.sha256(f"interleave:{seed}".encode()).digest()[0] & 1]


def interleave(
    control: Sequence[str], treatment: Sequence[str], k: int, first: ArmName, pinned: Collection[str] = ()
) -> Interleaved:
    """Interleave the first ``k`` items of two lists.

    The credit of an item is how much more its own arm thinks of it than of its rival, and the same of the other arm,
    divided by how likely both are seen where they stand. What an arm thinks of an item, and how likely a place is seen,
    is 1 / log2(1 + place), 0 behind ``k``. With the true chances of being seen it comes near the difference between
    the clicks that each list would have had alone; with wrong ones it is less sensitive and still without bias, as both
    items of a pair count the same.

    Args:
        control: Ids of one arm's items, best first, none twice.
        treatment: Those of the other arm.
        k: How many items are shown, at least 1; fewer where both lists together have fewer.
        first: Whose items stand first, see :func:`coin`.
        pinned: Items that stay at their place where both lists have them there; they count for nobody.
    """
    one, two, seen = control[:k], treatment[:k], _seen(k)
    shown = {place: a for place, (a, b) in enumerate(zip(one, two, strict=False)) if a in pinned and a == b}
    held = set(shown.values())
    free = iter([place for place in range(k) if place not in shown] if shown else range(k))
    of_control, of_treatment = dict(zip(one, seen, strict=False)), dict(zip(two, seen, strict=False))
    credits: dict[str, float] = {}
    for a, b in _nominees(one, two, held):
        place = next(free, None)
        if place is None:
            break
        if a == b:
            shown[place] = a
            continue
        behind = next(free, None)
        gap = of_control[a] - of_control.get(b, 0.0) + of_treatment[b] - of_treatment.get(a, 0.0)
        credit = gap / (seen[place] + (0.0 if behind is None else seen[behind]))
        pair = ((a, -credit), (b, credit)) if first == "control" else ((b, credit), (a, -credit))
        for where, (item, own) in zip((place, behind), pair, strict=True):
            if where is not None:
                shown[where], credits[item] = item, own
    return Interleaved(tuple([shown[place] for place in sorted(shown)]), credits, first)


def _nominees(one: Sequence[str], two: Sequence[str], taken: set[str]) -> Iterator[tuple[str, str]]:
    """What each arm would show next, turn by turn; the same twice where one has nothing left."""
    i = j = 0
    while True:
        while i < len(one) and one[i] in taken:
            i += 1
        while j < len(two) and two[j] in taken:
            j += 1
        if i == len(one) and j == len(two):
            return
        a, b = one[i] if i < len(one) else two[j], two[j] if j < len(two) else one[i]
        yield a, b
        taken.add(a)
        taken.add(b)


@lru_cache(maxsize=32)
def _seen(k: int) -> tuple[float, ...]:
    """How likely each of the first places is seen, against the first."""
    return tuple(1 / log2(place + 2) for place in range(k))
