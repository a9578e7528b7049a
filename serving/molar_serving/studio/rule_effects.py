"""What a rule has done since it began, by the event log; see :mod:`molar_eval.kpi.rule_effect`."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from molar_eval.kpi.daily.attribution import DayFacts
from molar_eval.kpi.daily.record import daily
from molar_eval.kpi.rule_effect import RuleEffect, effect_of, whole_weeks
from molar_indexes.constraints import Constraints
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.ranking.rules import Rules
from molar_serving.rules_file import RulesVersion

if TYPE_CHECKING:
    from molar_indexes.answerer import Answerer
    from molar_serving.service import Service

TOLD_OF = ("pin", "boost", "bury", "at_least")
"""Kinds of rules that are about some items, which go on being shown."""
_DAY = 86_400
_MICROSECOND = 1e-6


@dataclass(frozen=True)
class EffectOfRule:
    """The effect of a rule.

    Attributes:
        effect: Its effect; None: nobody knows when it began.
        by: Whether by purchases, or, of fewer than it takes, by looks at items.
        items: How many items it is about.
        began: When, in seconds since 1970.
    """

    effect: RuleEffect | None
    by: Literal["purchases", "looks"]
    items: int
    began: float | None


def effect_of_rule(service: "Service", table: Mapping[str, Any], version: RulesVersion | None) -> EffectOfRule:
    """The effect of a rule as a file has it, which came with a version; a SettingsError where it is wrong."""
    with service.recommender.answering() as answerer:
        rules = Constraints(answerer.generation, {"rule": [table]}).rules
        assert isinstance(rules, Rules)
        items = _items(answerer, rules)
    begin, end = (moment * _MICROSECOND for moment in rules.all[0].rule.period)
    written = None if version is None or version.at is None else datetime.fromisoformat(version.at).timestamp()
    known = [one for one in (written, begin if begin > 0 else None) if one is not None]
    if not known:
        return EffectOfRule(None, "purchases", len(items), None)
    began = max(known)
    first, last = -int(-began // _DAY), int(min(time.time(), end) // _DAY) - 1  # days that it held as a whole
    days = whole_weeks(last - first + 1)
    start = int(began // _DAY) - days
    facts = daily(service.workspace, first + days - start, first + days - 1) if days else []
    chosen = [*facts[:days], *facts[len(facts) - days :]]
    found = effect_of(*_counts(chosen, items, "purchases"))
    if found.lacking == "taken":
        by_looks = effect_of(*_counts(chosen, items, "looks"))
        if by_looks.lacking is None:
            return EffectOfRule(by_looks, "looks", len(items), began)
    return EffectOfRule(found, "purchases", len(items), began)


def _items(answerer: "Answerer", rules: Rules) -> frozenset[str]:
    """Ids of the items that a rule is about."""
    (active,) = rules.all
    if active.condition is None:
        return frozenset(active.rule.pin or ())
    store, ranker = answerer.generation.table.items, answerer.ranker
    rows = np.flatnonzero(store.known | store.cold)
    return frozenset(
        answerer.generation.table.item_id(int(row)) for row in rows[ranker.fulfilling(active.condition, rows)]
    )


def _counts(days: Collection[DayFacts], items: frozenset[str], name: str) -> tuple[Any, Any]:
    """By day, what happened with some items and with all others."""
    own, every = np.zeros(len(days), np.int64), np.zeros(len(days), np.int64)
    for number, facts in enumerate(days):
        counts = facts.items[name].to_numpy()
        mine = np.fromiter((one in items for one in facts.items[ITEM_ID].to_pylist()), bool, len(counts))
        own[number], every[number] = counts[mine].sum(), counts.sum()
    return own, every - own
