"""Which of the first ten places of a list items without interactions get."""

from collections.abc import Mapping
from typing import Any, TypeAlias

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
