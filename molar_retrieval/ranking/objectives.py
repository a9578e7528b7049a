"""What a list is asked for: the next item or all that follows, new to the user or not; slots of cold-start items."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from molar_retrieval.errors import RequestError

TOP = 10  # length of the top of a list that known and cold items share; both are to be searched at least so far
Places: TypeAlias = tuple[int, ...]
"""Places of cold items among the first ten, ascending, from 2; the last is the tenth. Empty: they have none."""


def last(count: int) -> Places:
    """The last ``count`` of the first ten places; known items keep one."""
    return tuple(range(TOP - min(count, TOP - 1) + 1, TOP + 1))


def told_places(facts: Mapping[str, Any]) -> Places:
    """As a manifest tells them. Older ones told how many there were, which were the last ones."""
    told = facts.get("places", facts.get("slots", 0))
    return last(told) if isinstance(told, int) else tuple(int(place) for place in told)


Horizon = Literal["next", "later"]
Seen = Literal["hide", "show"]
ObjectiveScale: TypeAlias = Mapping[str, float]
"""What the vectors of users are multiplied by, by part of the score; 1 where a part is not named."""
Objectives: TypeAlias = Mapping[str, ObjectiveScale]
"""The factors of each aim, by its name. The default one is there only where other aims have parts of their own."""
VISIT = 30 * 60
"""Seconds after the last thing that somebody did, from which on they come back, as web analytics count visits."""


@dataclass(frozen=True)
class Objective:
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

    def at(self, now: float, last: int) -> "Objective":
        """The same at a moment, by whoever did the last thing at another, in seconds since 1970; 0: it is not known."""
        return replace(self, arriving=self.horizon == "next" and 0 < last <= now - VISIT)

    def places(self, chosen: Places) -> Places:
        """Which of the first ten places newcomers have, without a draw, where these were ``chosen``.

        What comes next decided what they had earned, and nothing decides it for what is taken later.
        """
        return chosen if self.horizon == "next" else ()


NEXT, ARRIVING, LATER = Objective(), Objective(arriving=True), Objective("later")
NEXT_SEEN, ARRIVING_SEEN, LATER_SEEN = (Objective(one.horizon, "show", one.arriving) for one in (NEXT, ARRIVING, LATER))
EVERY = (NEXT, ARRIVING, LATER, NEXT_SEEN, ARRIVING_SEEN, LATER_SEEN)


def served(aims: Objectives, aim: Objective) -> Objective:
    """The aim whose weights answer: where none were chosen for who comes back, or for seen items, those of all lists.

    RequestError if none were chosen for its horizon.
    """
    hidden = Objective(aim.horizon)
    if hidden != NEXT and hidden.name not in aims:
        raise RequestError(
            f"no weights were chosen for the horizon {aim.horizon!r}",
            'set horizon = "both" in [align] and run `molar align`, or ask for what comes next',
        )
    others = replace(aim, arriving=False), replace(aim, seen="hide")
    return next((one for one in (aim, *others) if one.name in aims), hidden)


def shared(weights: Mapping[Objective, Mapping[str, float]]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
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
