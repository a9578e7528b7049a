"""Changes of items by events: over payloads, over the items file, and what is wrong with one that comes alone.

The latest change counts. Preparing a catalogue rejects the values of events that it cannot use; the API checks them
when they are sent.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import pyarrow as pa

from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.data.availability import ACTIVE, ROLES, Availability, moment
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.live_events import KINDS_OF_ROLES, PayloadFields
from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.rows import Rejects
from molar_retrieval.data.schema import CatalogueSchema, type_of
from molar_retrieval.data.values import STRING_LIST, as_strings, is_list, kind_of, payload_type, type_of_kind
from molar_retrieval.errors import nearest, shown, suggestion

UNKNOWN, UNUSABLE = "unknown column, left out", "value not usable, left as it was"
NOTHING, NO_ITEM, A_VARIANT = "nothing in data", "unknown item", "a variant, name its item"


@dataclass
class ChangedItem:
    """Changes of an item by events: values by column, those newer than the file, and all of them."""

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
        self, source: TableReader, spec: CatalogueSchema, events: Iterable[Mapping[str, Any]], rejects: Rejects
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
        said = set[str]().union(*(item.all for item in self.items.values()))
        roles = self._fields.availability.roles
        added = {role: name for name, role in roles.items() if role not in spec.availability and name in said}
        reasons = dict.fromkeys(added.values(), "it says from when the item may be shown")
        self.spec = spec.model_copy(
            update={
                "items": spec.items.model_copy(update={"payload": (*spec.items.payload, *added.values())}),
                "availability": {**spec.availability, **added},
                "ignored_columns": {**spec.ignored_columns, **reasons},
            }
        )

    def _add(self, line: Mapping[str, Any]) -> None:
        item_id, withdrawn = str(line["item_id"]), line["event"] == "item_withdraw"
        item = self.items.setdefault(item_id, ChangedItem(line["event_id"], line["seq"]))
        values, unusable = self._fields.read(line["event"], line["data"])
        for column in values.keys() & self._times.keys() - self._fields.availability.roles.keys():
            given = pa.array([values[column]], pa.string())
            try:  # as the file would have it
                values[column] = as_strings(given.cast(self._times[column]))[0].as_py()
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
        if moment(line["received"] or line["timestamp"]) > self._written:
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


def _fields_of_columns(spec: CatalogueSchema, columns: Mapping[str, pa.DataType]) -> PayloadFields:
    """The columns of a file as fields of their own names, also those that are not kept as payload."""
    roles = {column: role for role, column in spec.availability.items()}
    free = {role: spec.availability.get(role) or _unused(role, columns) for role in ROLES}
    kinds = {name: KINDS_OF_ROLES[role][-1] for role, name in free.items()}
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


_LARGEST = 2**53  # of a whole number: beyond, the next one is no number of its own
_NO_COLUMN = "put the photo into the folder images/ of the catalogue, as ITEM_ID.jpg, or PUT /v1/photos/ITEM_ID"
_FOREIGN = ("http:", "https:", "data:", "ftp:", "file:")
_WANTED = {
    "keyword": "a text",
    "integer": "a number",
    "float": "a number",
    "bool": "true or false",
    "available_from": "a time as ISO 8601",
    "stock": "a number of pieces",
}


class AttributeMistake(NamedTuple):
    """What is wrong with an attribute, and what to do."""

    name: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class ItemSchema:
    """The attributes of a catalogue.

    Attributes:
        names: All that an item may have, by the names of the items file, and the roles that stand for some of them.
        fields: Those that are kept for filters and display.
        words: Those that enter vectors, so that a change of them acts with the next update.
        whole: Those that an item that is given whole has, or has not.
        photos: Those that name a photo.
        roles: What columns of words stand for, by column.
        item_id: The column of the id.
    """

    names: frozenset[str]
    fields: PayloadFields
    words: frozenset[str]
    whole: tuple[str, ...]
    photos: frozenset[str]
    roles: Mapping[str, str]
    item_id: str

    @classmethod
    def of(cls, catalogue: Catalogue) -> Self:
        """Of a prepared catalogue."""
        items, kinds = catalogue.manifest.settings["items"], catalogue.fields
        texts = {role: items[role] for role in (TITLE, DESCRIPTION) if items[role] is not None}
        photo = set() if items[IMAGE] is None else {IMAGE, items[IMAGE]}
        return cls(
            names=frozenset({*items["payload"], *texts, *texts.values(), *photo, *ROLES}),
            fields=PayloadFields.of(kinds, catalogue.described, catalogue.availability),
            words=frozenset({*catalogue.attributes, *texts, *texts.values(), *photo}),
            whole=(*items["payload"], *texts),
            photos=frozenset(photo),
            roles={column: role for role, column in texts.items()},
            item_id=items[ITEM_ID],
        )

    @property
    def has_active(self) -> bool:
        """Whether a column of the catalogue says that an item is withdrawn."""
        return self.fields.availability.active in self.fields.kinds

    def missing(self, attributes: Mapping[str, Any]) -> list[str]:
        """What an item that is given whole has not, by these attributes; photos stay."""
        given = {self._meant(name) for name in attributes}
        return [name for name in self.whole if self._meant(name) not in given]

    def _meant(self, name: str) -> str:
        return self.fields.field(name) or self.roles.get(name, name)

    def mistakes(self, attributes: Mapping[str, Any]) -> list[AttributeMistake]:
        """What is wrong with attributes of an item; the id may be among them."""
        given = {name: value for name, value in attributes.items() if name not in (ITEM_ID, self.item_id)}
        return [found for name, value in given.items() if (found := self._mistake(name, value)) is not None]

    def _mistake(self, name: str, value: Any) -> AttributeMistake | None:
        if name not in self.names:
            remedy = suggestion(name, sorted(self.names), f"known are {', '.join(sorted(self.names))}")
            if name == IMAGE:
                remedy = _NO_COLUMN
            return AttributeMistake(name, f"the catalogue has no attribute {shown(name)}", remedy)
        if name in self.photos and isinstance(value, str) and value.lower().startswith(_FOREIGN):
            remedy = "put the photo into the catalogue's folder, and name its path there, or PUT /v1/photos/ITEM_ID"
            return AttributeMistake(name, "a photo is not fetched from an address", remedy)
        numbers = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int)]
        if any(abs(number) > _LARGEST for number in numbers):
            return AttributeMistake(name, f"{name} = {shown(value)} is too large", f"give at most {_LARGEST:,}")
        if value is None or value == "" or self._fits(name, value):
            return None
        role = self.fields.availability.roles.get(name, name)
        wanted = _WANTED.get(role, _WANTED[self.fields.kinds.get(name, "bool" if role == ACTIVE else "keyword")])
        return AttributeMistake(name, f"{name} = {shown(value)} is not taken", f"give {wanted}")

    def _fits(self, name: str, value: Any) -> bool:
        """Whether a field can hold a value; what is no field is words, one text or several."""
        if self.fields.field(name) is not None:
            return bool(self.fields.changed("item_upsert", json.dumps({name: value})))
        values = value if isinstance(value, list) else [value]
        return not any(isinstance(one, list | dict) for one in values)
