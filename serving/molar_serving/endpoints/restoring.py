"""What items were before a change, so that it can be undone, and putting that back."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from molar_retrieval.data.availability import ACTIVE
from molar_retrieval.data.live_events import EventLogReader
from molar_retrieval.errors import MolarError

if TYPE_CHECKING:
    from molar_retrieval.data.item_changes import ItemSchema
    from molar_serving.service import Service

_MOST = 1 << 16  # bytes that the audit log keeps of what items were


class ItemChange(NamedTuple):
    """An item, and what is said of it: attributes, or that it is withdrawn."""

    item_id: str
    attributes: Mapping[str, Any]
    withdrawn: bool


def former_items(
    service: "Service", schema: "ItemSchema", changes: Sequence[ItemChange], known: Sequence[bool]
) -> list[dict[str, Any]] | None:
    """What some items say before a change, by the attributes that it names; to be asked before it is made.

    Of each item ``before`` has these attributes, None for what it has not; ``before`` is None where the item was not
    known (``known``), so that withdrawing it undoes the change; ``lost`` names attributes of which nothing is kept that
    could be put back. None where the former state of an item is not to be had, or it is too much to be kept.
    """
    try:
        with service.recommender.answering() as answerer:
            index = answerer.present()[1].items.index
            rows = answerer.generation.index.rows([one.item_id for one in changes])
            stored = {item.row: item.payload for item in index.fetch(sorted({row for row in rows if row is not None}))}
    except MolarError:  # nothing is published, or it cannot be read
        return None
    found = []
    for one, row, was in zip(changes, rows, known, strict=True):
        if row is None and was:
            return None  # it waits for the next generation; what it said is in events alone
        found.append({"item_id": one.item_id, **_former(schema, one, None if row is None else stored[row])})
    return found if len(msgspec.json.encode(found)) <= _MOST else None


def _former(schema: "ItemSchema", change: ItemChange, payload: Mapping[str, Any] | None) -> dict[str, Any]:
    if payload is None:
        return {"before": None}
    if change.withdrawn:
        return {"before": {ACTIVE: payload.get(schema.fields.availability.active) is not False}}
    fields = {name: schema.fields.field(name) for name in change.attributes}
    before = {name: _plain(payload.get(field)) for name, field in fields.items() if field is not None}
    if fields.get(ACTIVE) is not None and before[ACTIVE] is None:
        before[ACTIVE] = True  # what says nothing is for sale
    lost = [name for name, field in fields.items() if field is None]
    return {"before": before, **({"lost": lost} if lost else {})}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value


def changed_since(service: "Service", items: Sequence[str], seq: int) -> list[str]:
    """Those of some items that events after a number change."""
    with closing(EventLogReader(service.workspace)) as log:
        changed = set() if log.mark is None else {one["item_id"] for one in log.changes_of_items(seq, log.last)}
    return [item for item in items if item in changed]
