"""What rules and calibration read off the items' attributes: who gets more, and what the list has to look like."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.compose import Cap, Choice, Composition, Mix, Quota
from molar_retrieval.ranking.filters import Expression
from molar_retrieval.ranking.index_protocol import StoredItem
from molar_retrieval.ranking.request import RankingRequest, Rows

if TYPE_CHECKING:
    from molar_retrieval.ranking.rules import ActiveRule

Array = npt.NDArray[Any]
_RECENT = 200  # so many of the last items of a history say what mix of attributes a user likes
_DAY = 86_400
_AHEAD = 16  # items whose attributes are fetched together where they are looked at one by one


class RankedItems(Protocol):
    """What is known of items by row."""

    def stored(self, rows: Rows) -> Sequence[StoredItem]:
        """What the index holds of some, in their order."""

    def fulfilling(self, condition: Expression, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of some a condition means."""


def boosts(
    rules: "Sequence[ActiveRule]", rows: Array, items: RankedItems, scores: Array, now: datetime | None = None
) -> Array:
    """What each rule adds to each candidate's score, shape (C, rules); ages count until ``now``."""
    now = datetime.now(UTC) if now is None else now
    added = np.zeros((len(scores), len(rules)))
    spread = float(scores.std()) if len(scores) else 0.0
    for number, active in enumerate(rules):
        rule = active.rule
        if rule.action in ("boost", "bury") and active.condition is not None:
            sign = 1 if rule.action == "boost" else -1
            added[:, number] = sign * rule.by * spread * items.fulfilling(active.condition, rows)
        elif rule.fresh is not None:
            ages = np.array([_age(item.payload.get(rule.fresh), now) for item in items.stored(rows)])
            added[:, number] = rule.by * spread * np.exp2(-ages / rule.half_life_days)
    return added


def composition(
    request: RankingRequest, rows: Array, pins: Mapping[int, tuple[int, str]], items: RankedItems
) -> Composition:
    """What the list has to look like by a request's rules, diversity and calibration.

    ``rows`` are the candidates, best first; ``pins`` are candidate and rule by place.
    """
    query, caps, quotas, mix = request.query, [], [], None
    for active in request.caps:
        rule = active.rule
        if rule.at_most is not None and rule.per is not None:
            caps.append(Cap(rule.title, _reader(items, rows, rule.per), rule.at_most))
    for active in request.weighing:
        rule = active.rule
        if rule.at_least is not None and active.condition is not None:
            quotas.append(Quota(rule.title, items.fulfilling(active.condition, rows), rule.at_least))
    if query.calibrate is not None and request.user is not None:
        mix = _mix(items.stored(request.user.history[-_RECENT:]), query.calibrate, items.stored(rows))
    return Composition(query.diversity, query.calibration if mix is not None else 0.0, mix, caps, quotas, pins)


def _reader(items: RankedItems, rows: Array, name: str) -> Callable[[int], list[str]]:
    """Says which values of a field one of the rows has; those behind it are fetched along."""
    known: dict[int, list[str]] = {}

    def values(number: int) -> list[str]:
        if number not in known:
            known.update(
                (number + n, values_of(item, name))
                for n, item in enumerate(items.stored(rows[number : number + _AHEAD]))
            )
        return known[number]

    return values


def _mix(history: Sequence[StoredItem], name: str, items: Sequence[StoredItem]) -> Mix | None:
    """What the history is made of; None where it has no value of the field."""
    shares: dict[str, float] = {}
    for item in history:
        values = values_of(item, name)
        for value in values:
            shares[value] = shares.get(value, 0.0) + 1 / len(values)
    if not shares:
        return None
    number = {value: n for n, value in enumerate(shares)}
    members = np.zeros((len(items), len(shares)))
    for row, item in enumerate(items):
        values = values_of(item, name)
        for value in values:
            if value in number:
                members[row, number[value]] += 1 / len(values)
    target = np.array(list(shares.values()))
    return Mix(target / target.sum(), members)


def values_of(item: StoredItem, name: str) -> list[str]:
    """The different values that an item has of a field, as caps count them and calibration weighs them."""
    value = item.payload.get(name)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return list(dict.fromkeys(map(str, values)))


def _age(value: Any, now: datetime) -> float:
    """Days since a date; infinite where there is none, 0 in the future."""
    begun = dated(value)
    return np.inf if begun is None else max(0.0, (now - begun).total_seconds() / _DAY)


def dated(value: Any) -> datetime | None:
    """The moment that a field tells, the middle of a year where it tells that alone; None where it tells none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 1000 <= value < 3000:
        return datetime(int(value), 7, 1, tzinfo=UTC)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def unmet(composition: Composition, choices: Sequence[Choice]) -> list[str]:
    """A sentence for each quota that could not be met."""
    notes = []
    for quota in composition.quotas:
        met = sum(bool(quota.fulfils[choice.candidate]) for choice in choices)
        if met < min(quota.least, len(choices)):
            notes.append(f"{quota.name}: {met} could be met")
    return notes
