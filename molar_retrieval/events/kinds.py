"""Which kinds of events make a history, and how much each counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from molar_retrieval.workspace.config_files import EVENT_WEIGHTS

NEVER = ("impression", "search")
"""Kinds that make no history: what was shown is no choice, and a search is of no item."""
TAKES_OUT = {"return": "purchase", "remove_from_cart": "add_to_cart"}
"""Kinds that take another one out of the history."""
DEFAULT = EVENT_WEIGHTS
"""Weights where neither the settings nor validation says others."""
_LATER = "later_kinds"


def counted(weights: Mapping[str, float]) -> dict[str, float]:
    """The kinds that count, the strongest first."""
    return {kind: float(weights[kind]) for kind in sorted(weights, key=lambda k: (-weights[k], k)) if weights[kind] > 0}


def matter(weights: Mapping[str, float]) -> tuple[str, ...]:
    """The kinds whose events change a history: those that count, and those that take one of them out."""
    taken = (kind for kind, other in TAKES_OUT.items() if weights.get(other, 0) > 0)
    return (*counted(weights), *taken)


@dataclass(frozen=True)
class Kinds:
    """Weights of the kinds that count, who chose them, and what was tried on the way.

    ``at`` is the last event, by its number, that a choice by validation has seen; None: none was asked for.
    """

    weights: Mapping[str, float]
    chosen_by: Literal["default", "settings", "validation"] = "default"
    tried: Sequence[Mapping[str, Any]] = ()
    at: int | None = None

    @classmethod
    def of(cls, asked: Mapping[str, float] | None) -> "Kinds":
        """As the settings say, or by default."""
        return cls(counted(DEFAULT)) if asked is None else cls(counted(asked), "settings")

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> "Kinds | None":
        """Those of prepared interactions; None where these are of no events."""
        told = facts.get("kinds")
        return (
            None if told is None else cls(told, facts["kinds_by"], facts.get("kinds_tried", ()), facts.get("kinds_at"))
        )

    @property
    def facts(self) -> dict[str, Any]:
        """As facts of a manifest."""
        tried = {"kinds_tried": [dict(one) for one in self.tried]} if self.tried else {}
        at = {} if self.at is None else {"kinds_at": self.at}
        return {"kinds": dict(self.weights), "kinds_by": self.chosen_by, **tried, **at}

    def equals(self, other: "Kinds") -> bool:
        """Whether the same counts as much, by the same choice."""
        return (dict(self.weights), self.chosen_by) == (dict(other.weights), other.chosen_by)


def with_later(facts: Mapping[str, Any], kinds: Kinds | None) -> dict[str, Any]:
    """Facts of prepared interactions without events, with what the settings say of those to come; None: as they are."""
    if kinds is None or Kinds.of_facts(facts) is not None:
        return dict(facts)
    others = {name: value for name, value in facts.items() if name != _LATER}
    return others | ({_LATER: dict(kinds.weights)} if kinds.chosen_by == "settings" else {})


def told_by(facts: Mapping[str, Any]) -> Mapping[str, float]:
    """The kinds that count in answers, by the facts of prepared interactions; empty: those of the default."""
    found: Mapping[str, float] = facts.get("kinds") or facts.get(_LATER) or {}
    return found
