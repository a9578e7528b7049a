"""Which kinds of events make a history, and how much each counts."""

from collections.abc import Mapping

NEVER = ("impression", "search")
"""Kinds that make no history: what was shown is no choice, and a search is of no item."""
TAKES_OUT = {"return": "purchase", "remove_from_cart": "add_to_cart"}
"""Kinds that take another one out of the history."""
DEFAULT: Mapping[str, float] = {"purchase": 1.0, "rating": 1.0, "add_to_cart": 0.3, "click": 0.1, "view": 0.1}
"""Weights where neither the settings nor validation says others."""


def counted(weights: Mapping[str, float]) -> dict[str, float]:
    """The kinds that count, the strongest first."""
    return {kind: float(weights[kind]) for kind in sorted(weights, key=lambda k: (-weights[k], k)) if weights[kind] > 0}


def matter(weights: Mapping[str, float]) -> tuple[str, ...]:
    """The kinds whose events change a history: those that count, and those that take one of them out."""
    taken = (kind for kind, other in TAKES_OUT.items() if weights.get(other, 0) > 0)
    return (*counted(weights), *taken)
