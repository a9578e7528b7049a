"""The rules that shape a list, as a device reads them: which items each of them means, worked out beforehand."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from molar_retrieval.ranking.diversity import dated, values_of
from molar_retrieval.ranking.index_protocol import StoredItem
from molar_retrieval.ranking.query import ResolvedQuery
from molar_retrieval.ranking.ranker import Ranker
from molar_retrieval.workspace.tensors import Array

if TYPE_CHECKING:
    from molar_retrieval.ranking.rules import ActiveRule

_DAY = 86_400


def shaping_rules(
    request: ResolvedQuery, ranker: Ranker, items: Sequence[StoredItem], count: int
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """What each rule of a request does, in their order, and by name which of the ``items`` that may come it means.

    Arrays are of ``count`` items, by row. What rules are called, and why they are, is not told: anybody may read it.
    """
    told, tensors = [], dict[str, Array]()
    for number, active in enumerate((*request.weighing, *request.caps, *request.pins)):
        name, rule = f"rule.{number}", active.rule
        own: dict[str, Any] = {"action": rule.action, "tensor": name}
        match rule.action:
            case "boost" | "bury" | "at_least":
                tensors[name] = _meant(active, ranker, items, count)
                own |= {"least": rule.at_least} if rule.action == "at_least" else {"by": rule.by}
            case "fresh":
                tensors[name] = _days(items, str(rule.fresh), count)
                own |= {"by": rule.by, "half_life_days": rule.half_life_days}
            case "at_most":
                tensors |= {f"{name}.{part}": values for part, values in _values(items, str(rule.per), count).items()}
                own |= {"most": rule.at_most}
            case _:
                tensors[name] = _pinned(rule.pin or (), items)
                own |= {"at": rule.at}
        told.append(own)
    return told, tensors


def _meant(active: "ActiveRule", ranker: Ranker, items: Sequence[StoredItem], count: int) -> Array:
    found, rows = np.zeros(count, np.uint8), np.array([item.row for item in items], np.int64)
    if active.condition is not None:
        found[rows] = ranker.fulfilling(active.condition, rows)
    return found


def _days(items: Iterable[StoredItem], field: str, count: int) -> Array:
    """From when an item counts as fresh, in days since 1970; nan where nothing says so."""
    found = np.full(count, np.nan)
    for item in items:
        begun = dated(item.payload.get(field))
        found[item.row] = np.nan if begun is None else begun.timestamp() / _DAY
    return found


def _values(items: Iterable[StoredItem], field: str, count: int) -> dict[str, Array]:
    """The values of a field as numbers, of one item after the other, and where those of each begin."""
    numbers: dict[str, int] = {}
    found = {item.row: [numbers.setdefault(value, len(numbers)) for value in values_of(item, field)] for item in items}
    starts = np.cumsum([0, *(len(found.get(row, ())) for row in range(count))])
    values = [value for row in range(count) for value in found.get(row, ())]
    return {"starts": starts.astype(np.int32), "values": np.array(values, np.int32)}


def _pinned(item_ids: Iterable[str], items: Iterable[StoredItem]) -> Array:
    """Rows of the items that are named and may come, in the order of the names."""
    rows = {item.item_id: item.row for item in items}
    return np.array([rows[item_id] for item_id in item_ids if item_id in rows], np.int32)
