"""What a list is asked for: the next item or all that follows, new to the user or not; slots of cold-start items."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from molar_retrieval.errors import RequestError
from molar_retrieval.workspace.config_files import ObjectiveName

TOP = 10  # length of the top of a list that known and cold items share; both are to be searched at least so far
Slots: TypeAlias = tuple[int, ...]
"""Places of cold items among the first ten, ascending, from 2; the last is the tenth. Empty: they have none."""


def last(count: int) -> Slots:
    """The last ``count`` of the first ten places; known items keep one."""
    return tuple(range(TOP - min(count, TOP - 1) + 1, TOP + 1))


def slots_of(facts: Mapping[str, Any]) -> Slots:
    """As a manifest has them."""
    return tuple(int(slot) for slot in facts.get("slots", ()))


Seen = Literal["hide", "show"]
Context = Literal["auto", "session_start", "in_session"]
"""Whether the next item is the first one of a visit; ``auto``: by the time since the last interaction."""
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
        target: The next item of the user, or all of the user's future items.
        seen: Whether items of the history may come again.
        session_start: Whether the next item is the first one of a visit, not one in the middle of it.
    """

    target: ObjectiveName = "next_item"
    seen: Seen = "hide"
    session_start: bool = False

    @property
    def name(self) -> str:
        """As manifests have it."""
        also = {"session start": self.session_start, "seen shown": self.seen == "show"}
        return ", ".join([self.target, *(name for name, told in also.items() if told)])

    def at(self, now: float, last: int, context: Context = "auto") -> "Objective":
        """The same in a context, for a user whose last interaction was at ``last``, in seconds; 0: it is not known."""
        starts = 0 < last <= now - VISIT if context == "auto" else context == "session_start"
        return replace(self, session_start=self.target == "next_item" and starts)

    def slots(self, chosen: Slots) -> Slots:
        """Which of the first ten places cold-start items have, without a draw, where these were ``chosen``.

        What comes next decided what they had earned, and nothing decides it for what is taken later.
        """
        return chosen if self.target == "next_item" else ()


NEXT_ITEM, SESSION_START, FUTURE_ITEMS = Objective(), Objective(session_start=True), Objective("future_items")
NEXT_ITEM_SEEN, SESSION_START_SEEN, FUTURE_ITEMS_SEEN = (
    Objective(one.target, "show", one.session_start) for one in (NEXT_ITEM, SESSION_START, FUTURE_ITEMS)
)
EVERY = (NEXT_ITEM, SESSION_START, FUTURE_ITEMS, NEXT_ITEM_SEEN, SESSION_START_SEEN, FUTURE_ITEMS_SEEN)


def served(objectives: Objectives, objective: Objective) -> Objective:
    """The aim whose weights answer: where none were chosen for who comes back, or for seen items, those of all lists.

    RequestError if none were chosen for it.
    """
    hidden = Objective(objective.target)
    if hidden != NEXT_ITEM and hidden.name not in objectives:
        raise RequestError(
            f"no weights were chosen for the objective {objective.target!r}",
            'set objectives = ["next_item", "future_items"] in [align] and run `molar align`, or ask for the next item',
        )
    others = replace(objective, session_start=False), replace(objective, seen="hide")
    return next((one for one in (objective, *others) if one.name in objectives), hidden)


def shared(weights: Mapping[Objective, Mapping[str, float]]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The weights of items, by part, and the factors of users, by name of an aim, under which all aims have theirs.

    Items have the weights of the default aim, and those of the first other one that a part has a weight for.
    """
    items = {part: weight for part, weight in weights[NEXT_ITEM].items() if weight}
    for own in weights.values():
        items |= {part: weight for part, weight in own.items() if weight and part not in items}
    objectives = {
        objective.name: {
            part: own.get(part, 0.0) / weight for part, weight in items.items() if own.get(part, 0.0) != weight
        }
        for objective, own in weights.items()
    }
    if not objectives[NEXT_ITEM.name]:
        del objectives[NEXT_ITEM.name]
    return items, objectives
