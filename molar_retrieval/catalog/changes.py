"""Changes of items by events, laid over the items file: what came last counts."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from molar_retrieval.availability import ROLES, Availability
from molar_retrieval.catalog.available import type_of
from molar_retrieval.catalog.fields import KINDS_OF_ROLES, PayloadFields
from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.spec import CatalogueSpec
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.catalog.values import STRING_LIST, as_written, is_list, kind_of, payload_type, type_of_kind
from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.errors import nearest, shown

UNKNOWN, UNUSABLE = "unknown column, left out", "value not usable, left as it was"
NOTHING, NO_ITEM, A_VARIANT = "nothing in data", "unknown item", "a variant, name its item"


@dataclass
class ChangedItem:
    """What events say of an item: values by column, those that came after the file, and all of them."""

    event: str
    number: int
    upserted: bool = False
    newer: dict[str, Any] = field(default_factory=dict)
    all: dict[str, Any] = field(default_factory=dict)


class ItemChanges:
    """The sum of what events change in the items of a file.

    Attributes:
        items: What is said of each item, in the order of the first event.
        spec: What the columns mean, with those that only events bring: these say from when an item may be shown.
        types: The types of values by column.
    """

    def __init__(
        self, source: TableSource, spec: CatalogueSpec, events: Iterable[Mapping[str, Any]], rejects: Rejects
    ) -> None:
        """Read events that change items, in the order of their arrival; ``rejects`` takes what cannot be used."""
        self.items: dict[str, ChangedItem] = {}
        self._rejects, self._ids = rejects, {ITEM_ID, spec.items.item_id}
        self._written = source.path.stat().st_mtime_ns // 1000
        columns = {f.name: f.type for f in source.schema}
        self._times = {name: kind for name, kind in columns.items() if pa.types.is_temporal(kind)}
        self._fields = _fields_of_columns(spec, columns)
        self.types = {
            name: STRING_LIST if name in self._fields.lists else type_of_kind(kind)
            for name, kind in self._fields.kinds.items()
        }
        for line in events:
            self._add(line)
        values = [item.all for item in self.items.values()]
        roles = {role: name for name, role in self._fields.availability.roles.items()}
        used = {role: name for role, name in roles.items() if any(name in one for one in values)}
        added = {role: name for role, name in used.items() if role not in spec.availability}
        items = spec.items.model_copy(update={"payload": (*spec.items.payload, *added.values())})
        reasons = dict.fromkeys(added.values(), "it says from when the item may be shown")
        whole = {
            "items": items,
            "availability": {**spec.availability, **added},
            "ignored_columns": {**spec.ignored_columns, **reasons},
        }
        self.spec = spec.model_copy(update=whole) if added else spec

    def _add(self, line: Mapping[str, Any]) -> None:
        item_id, withdrawn = str(line["item_id"]), line["event"] == "item_withdraw"
        item = self.items.get(item_id)
        if item is None:
            item = self.items[item_id] = ChangedItem(line["event_id"], line["seq"])
        values, unusable = self._fields.read(line["event"], line["data"])
        for column in values.keys() & self._times.keys() - self._fields.availability.roles.keys():
            given = pa.array([values[column]], pa.string())
            try:  # as the file would have it
                values[column] = as_written(given.cast(self._times[column]))[0].as_py()
            except pa.ArrowException:
                unusable[column] = values.pop(column)
        if not withdrawn and not values and not unusable:
            self._reject(line, NOTHING)
        for name, value in unusable.items():
            meant = self._fields.field(name)
            if meant is not None:
                self._reject(line, UNUSABLE, f"{meant} is {shown(value)}")
            elif name not in self._ids:
                close = nearest(name, self._fields.names, n=1)
                self._reject(line, UNKNOWN, shown(name) + (f", did you mean {close[0]!r}?" if close else ""))
        for column, value in values.items():
            if isinstance(value, float) and self.types[column] == pa.int64():
                self.types[column] = pa.float64()
        item.upserted |= bool(values) and not withdrawn
        item.all |= values
        if _micros(line["received"] or line["timestamp"]) > self._written:
            item.newer |= values

    def added(self, known: Collection[str], variants: Collection[str] = ()) -> dict[str, ChangedItem]:
        """The items that only events know, by id; changes of ``variants`` and of unknown items are rejected."""
        unknown = {item_id: item for item_id, item in self.items.items() if item_id not in known}
        new = {item_id: item for item_id, item in unknown.items() if item.upserted and item_id not in variants}
        for item_id, item in unknown.items():
            if item_id not in new:
                reason = A_VARIANT if item_id in variants else NO_ITEM
                self._rejects.add(f"event {item.event}", item.number, item_id, reason)
        return new

    def _reject(self, line: Mapping[str, Any], kind: str, detail: str = "") -> None:
        self._rejects.add(f"event {line['event_id']}", int(line["seq"]), line["item_id"], kind, detail)


def _fields_of_columns(spec: CatalogueSpec, columns: Mapping[str, pa.DataType]) -> PayloadFields:
    """The columns of a file as fields of their own names, also those that are not kept as payload."""
    roles = {column: role for role, column in spec.availability.items()}
    free = {role: spec.availability.get(role) or _unused(role, columns) for role in ROLES}
    kinds = {role: KINDS_OF_ROLES[role][-1] for role in ROLES}
    kinds = {name: kinds[role] for role, name in free.items()}
    for name, kind in columns.items():
        stored = type_of(roles[name], kind) if name in roles else payload_type(kind)
        kinds[name] = "keyword" if stored is None else kind_of(stored)
    texts = {TITLE: spec.items.title, DESCRIPTION: spec.items.description, IMAGE: spec.items.image}
    named = {role: name for role, name in texts.items() if name is not None} | {name: name for name in columns}
    several = {name: None for name, kind in columns.items() if is_list(kind)}
    lists = several | dict.fromkeys(spec.items.lists, spec.items.separator)
    del named[spec.items.item_id]
    return PayloadFields(kinds, named, lists, Availability(**free))


def _unused(role: str, taken: Collection[str]) -> str:
    """A name for a new column of a role."""
    while role in taken:
        role += "_"
    return role


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
