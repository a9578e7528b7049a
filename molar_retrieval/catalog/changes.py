"""Changes of items by events, laid over the items file: what came last counts."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.availability import ACTIVE, AVAILABLE_FROM, ROLES, STOCK, understood
from molar_retrieval.catalog.fields import fitted
from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import Rows
from molar_retrieval.catalog.spec import CatalogueSpec
from molar_retrieval.catalog.table_source import Kinds, TableSource
from molar_retrieval.catalog.values import is_list, is_string
from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.errors import nearest, shown

_NEW = {ACTIVE: pa.bool_(), AVAILABLE_FROM: pa.string(), STOCK: pa.float64()}
UNKNOWN, UNUSABLE = "unknown column, left out", "value not usable, left as it was"
NOTHING, NO_ITEM, A_VARIANT = "nothing in data", "unknown item", "a variant, name its item"


@dataclass
class ChangedItem:
    """What events say of an item: values by column, those that came after the file, and all of them."""

    event: str
    seq: int
    upserted: bool = False
    newer: dict[str, Any] = field(default_factory=dict)
    all: dict[str, Any] = field(default_factory=dict)


class ChangedSource(TableSource):
    """An items file with what events change in it, and after its rows the items that only events know."""

    def __init__(self, source: TableSource, items: Mapping[str, ChangedItem], item_id: str, kinds: Kinds) -> None:
        super().__init__(source.path)
        self.form, self.untyped, self.total, self.decimal = source.form, source.untyped, source.total, source.decimal
        self.doubtful, self.variants = source.doubtful, source.variants
        self._source, self._items, self._item_id, self._kinds = source, items, item_id, kinds
        self._added: list[ChangedItem] = []
        self._last = np.iinfo(np.int64).max  # row of the file, once it was read

    @property
    def names(self) -> list[str]:
        """The columns of the file, then those that only events bring."""
        return list(dict.fromkeys([*self._source.names, *self._kinds]))

    @property
    def schema(self) -> pa.Schema:
        """As the file's, wider where events need it."""
        kinds = {f.name: f.type for f in self._source.schema} | self._kinds
        return pa.schema([(name, kinds[name]) for name in self.names])

    def origin(self, number: int) -> tuple[str, int]:
        """Where a row comes from: the file and its row, or the event."""
        if number <= self._last:
            return super().origin(number)
        added = self._added[number - self._last - 1]
        return f"event {added.event}", added.seq

    def _read(self, kinds: Kinds, size: int, rejects: Rejects | None, as_written: Collection[str]) -> Iterator[Rows]:
        known = set(self._source.names)
        wanted = [name for name in kinds if name in known]
        reading = list(dict.fromkeys([*wanted, self._item_id]))
        written = {*as_written, self._item_id} & known
        last, seen, variants = 0, set[str](), set[str]()
        if self.variants is not None:
            reading = list(dict.fromkeys([*reading, self.variants]))
        for rows in self._source.batches(reading, size, rejects, written):
            ids = rows.batch[self._item_id].to_pylist()
            last = max([last, *rows.numbers.tolist()])
            if self.variants is not None:
                variants.update(self._items.keys() & set(pc.list_flatten(rows.batch[self.variants]).to_pylist()))
            changed = [self._items.get(item_id) for item_id in ids]
            seen.update(item_id for item_id, one in zip(ids, changed, strict=True) if one is not None)
            values = [{} if one is None else one.newer for one in changed]
            touched = set[str]().union(*values)
            columns = {name: _replaced(rows.batch, name, kind, values, touched) for name, kind in kinds.items()}
            yield Rows(rows.numbers, _batch(columns))
        self._last = last
        left = {item_id: one for item_id, one in self._items.items() if item_id not in seen}
        self._added = [one for item_id, one in left.items() if one.upserted and item_id not in variants]
        for item_id, one in left.items():
            if rejects is not None and (item_id in variants or not one.upserted):
                reason = A_VARIANT if item_id in variants else NO_ITEM
                rejects.add(f"event {one.event}", one.seq, item_id, reason)
        for begin in range(0, len(self._added), size):
            some = [one.all for one in self._added[begin : begin + size]]
            columns = {name: pa.array([_in(one, name, kind) for one in some], kind) for name, kind in kinds.items()}
            yield Rows(np.arange(len(some), dtype=np.int64) + last + begin + 1, _batch(columns))


def _batch(columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def _replaced(
    batch: pa.RecordBatch, name: str, kind: pa.DataType, values: Sequence[Mapping[str, Any]], touched: Collection[str]
) -> pa.Array:
    """A column with the changes of its rows."""
    there = name in batch.schema.names
    if there and name not in touched:
        return batch[name] if batch[name].type == kind else batch[name].cast(kind)
    former = batch[name].to_pylist() if there else [None] * len(batch)
    pairs = zip(former, values, strict=True)
    return pa.array([_in(one, name, kind) if name in one else value for value, one in pairs], kind)


def _in(values: Mapping[str, Any], name: str, kind: pa.DataType) -> Any:
    """A value as a column of this type has it, where it is read as its type or as it is written."""
    value = values.get(name)
    return str(value) if value is not None and is_string(kind) and not isinstance(value, str) else value


def changed_source(
    source: TableSource, spec: CatalogueSpec, events: Iterable[Mapping[str, Any]], rejects: Rejects
) -> tuple[TableSource, CatalogueSpec]:
    """A file with the changes that events bring, and what its columns then mean; as they are where there are none.

    Args:
        source: The items file.
        spec: What its columns mean.
        events: Lines of the event log that change items, in the order of their arrival.
        rejects: Takes what cannot be used of an event; the rest of it counts.
    """
    folded = _Folded(source, spec, rejects)
    for line in events:
        folded.add(line)
    if not folded.items:
        return source, spec
    added = {role: name for role, name in folded.added.items() if role in folded.used}
    items = spec.items.model_copy(update={"payload": (*spec.items.payload, *added.values())})
    reasons = dict.fromkeys(added.values(), "it says from when the item may be shown")
    whole = {"items": items, "availability": {**spec.availability, **added}, "left_out": {**spec.left_out, **reasons}}
    kinds = folded.kinds | {name: _NEW[role] for role, name in added.items()}
    return ChangedSource(source, folded.items, spec.items.item_id, kinds), spec.model_copy(update=whole)


class _Folded:
    """The sum of the changes of each item, as values of its columns."""

    def __init__(self, source: TableSource, spec: CatalogueSpec, rejects: Rejects) -> None:
        self.items: dict[str, ChangedItem] = {}
        self.kinds: Kinds = {}  # of columns that are wider than in the file
        self.used: set[str] = set()
        self._rejects, self._spec = rejects, spec
        self._types = {f.name: f.type for f in source.schema}
        self._written = source.path.stat().st_mtime_ns // 1000
        self.added = {role: _free(role, self._types) for role in ROLES if role not in spec.availability}
        roles = {TITLE: spec.items.title, DESCRIPTION: spec.items.description, IMAGE: spec.items.image}
        self._column = {role: name for role, name in roles.items() if name is not None} | dict(spec.availability)
        self._column |= {role: name for role, name in self.added.items() if role not in self._types}
        self._column |= {name: name for name in self._types}
        self._role = {name: role for role, name in {**self.added, **spec.availability}.items()}

    def add(self, line: Mapping[str, Any]) -> None:
        """Take one more event."""
        item_id, withdrawn = str(line["item_id"]), line["event"] == "item_withdraw"
        item = self.items.get(item_id)
        if item is None:
            item = self.items[item_id] = ChangedItem(line["event_id"], line["seq"])
        values = self._values(line, withdrawn=withdrawn)
        item.upserted |= bool(values) and not withdrawn
        arrived = _micros(line["received"] or line["timestamp"])
        item.all |= {self._spec.items.item_id: item_id} | values
        if arrived > self._written:
            item.newer |= values

    def _values(self, line: Mapping[str, Any], *, withdrawn: bool) -> dict[str, Any]:
        if withdrawn:
            given = {self._spec.availability.get(ACTIVE, self.added.get(ACTIVE, ACTIVE)): False}
        else:
            given = json.loads(line["data"] or "{}")
            if not given:
                self._reject(line, NOTHING)
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name in (ITEM_ID, self._spec.items.item_id):
                continue
            column = name if withdrawn else self._column.get(name)
            if column is None:
                close = nearest(name, self._column, n=1)
                self._reject(line, UNKNOWN, shown(name) + (f", did you mean {close[0]!r}?" if close else ""))
                continue
            try:
                values[column] = self._fitted(column, value)
            except (ValueError, TypeError, OverflowError, pa.ArrowException):
                self._reject(line, UNUSABLE, f"{column} is {shown(value)}")
                continue
            if column in self._role:
                self.used.add(self._role[column])
        return values

    def _fitted(self, column: str, value: Any) -> Any:
        """A value as its column can hold it; a ValueError or the like where it cannot."""
        if value is None or value == "":
            return None
        role = self._role.get(column)
        if role is not None and (value := understood(role, value)) is None:
            raise ValueError(role)
        kind = self.kinds.get(column, self._types.get(column, _NEW[role] if role else pa.string()))
        if is_list(kind):
            return [_one(part, kind.value_type) for part in (value if isinstance(value, list) else [value])]
        if isinstance(value, list) and column in self._spec.items.lists:
            return self._spec.items.separator.join(str(_one(part, pa.string())) for part in value)
        fitted = _one(value, kind)
        if isinstance(fitted, float) and pa.types.is_integer(kind):
            self.kinds[column] = pa.float64()
        return fitted

    def _reject(self, line: Mapping[str, Any], kind: str, detail: str = "") -> None:
        self._rejects.add(f"event {line['event_id']}", int(line["seq"]), line["item_id"], kind, detail)


def _free(role: str, taken: Collection[str]) -> str:
    """A name for a new column of a role."""
    while role in taken:
        role += "_"
    return role


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _one(value: Any, kind: pa.DataType) -> Any:
    """A single value for a column of this type."""
    if isinstance(value, list | dict):
        raise TypeError("no single value")
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if is_string(kind) or pa.types.is_null(kind):
        return fitted("keyword", value)
    if pa.types.is_boolean(kind):
        return fitted("bool", value)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        number = fitted("integer" if pa.types.is_integer(kind) else "float", value)
        return pa.scalar(number, kind).as_py() if isinstance(number, int) else number  # or it is too large
    return pa.scalar(str(value)).cast(kind).as_py()
