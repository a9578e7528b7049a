"""What a list is asked for: the next item or all that follows, new to the person or not; and how one index serves each.

What comes next is another thing within a visit, where the last item tells most, than when somebody comes back, which
the time since then tells: nothing need be asked for.

Parts of a score are weighted otherwise for each aim. A weight can stand on either side of a dot product: items have one
weight of each part in their vectors, and the vectors of a user are multiplied by what an aim's weights differ by, part
by part, when they are asked. So all aims share the vectors of the items.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from molar_retrieval.errors import RequestError
from molar_retrieval.ranking.places import Places

Horizon = Literal["next", "later"]
Seen = Literal["hide", "show"]
Factors: TypeAlias = Mapping[str, float]
"""What the vectors of users are multiplied by, by part of the score; 1 where a part is not named."""
Aims: TypeAlias = Mapping[str, Factors]
"""The factors of each aim, by its name. The default one is there only where other aims have parts of their own."""
VISIT = 30 * 60
"""Seconds after the last thing that somebody did, from which on they come back, as web analytics count visits."""


@dataclass(frozen=True)
class Aim:
    """What weights are chosen for.

    Attributes:
        horizon: Whether what somebody takes ``next`` is looked for, or anything that they take ``later``.
        seen: Whether items of the history may come again.
        arriving: Whether what is looked for ``next`` is by somebody who comes back, not in the middle of a visit.
    """

    horizon: Horizon = "next"
    seen: Seen = "hide"
    arriving: bool = False

    @property
    def name(self) -> str:
        """As manifests have it."""
        also = {"arriving": self.arriving, "seen shown": self.seen == "show"}
        return ", ".join([self.horizon, *(name for name, told in also.items() if told)])

    def at(self, now: float, last: int) -> "Aim":
        """The same at a moment, by whoever did the last thing at another, in seconds since 1970; 0: it is not known."""
        return replace(self, arriving=self.horizon == "next" and 0 < last <= now - VISIT)

    def places(self, chosen: Places) -> Places:
        """Which of the first ten places newcomers have, without a draw, where these were ``chosen``.

        What comes next decided what they had earned, and nothing decides it for what is taken later.
        """
        return chosen if self.horizon == "next" else ()


NEXT, ARRIVING, LATER = Aim(), Aim(arriving=True), Aim("later")
NEXT_SEEN, ARRIVING_SEEN, LATER_SEEN = (Aim(one.horizon, "show", one.arriving) for one in (NEXT, ARRIVING, LATER))
EVERY = (NEXT, ARRIVING, LATER, NEXT_SEEN, ARRIVING_SEEN, LATER_SEEN)


def served(aims: Aims, aim: Aim) -> Aim:
    """The aim whose weights answer: where none were chosen for who comes back, or for seen items, those of all lists.

    RequestError if none were chosen for its horizon.
    """
    hidden = Aim(aim.horizon)
    if hidden != NEXT and hidden.name not in aims:
        raise RequestError(
            f"no weights were chosen for the horizon {aim.horizon!r}",
            'set horizon = "both" in [align] and run `molar align`, or ask for what comes next',
        )
    others = replace(aim, arriving=False), replace(aim, seen="hide")
    return next((one for one in (aim, *others) if one.name in aims), hidden)


def shared(weights: Mapping[Aim, Mapping[str, float]]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The weights of items, by part, and the factors of users, by name of an aim, under which all aims have theirs.

    Items have the weights of the default aim, and those of the first other one that a part has a weight for.
    """
    items = {part: weight for part, weight in weights[NEXT].items() if weight}
    for own in weights.values():
        items |= {part: weight for part, weight in own.items() if weight and part not in items}
    aims = {
        aim.name: {part: own.get(part, 0.0) / weight for part, weight in items.items() if own.get(part, 0.0) != weight}
        for aim, own in weights.items()
    }
    if not aims[NEXT.name]:
        del aims[NEXT.name]
    return items, aims
