"""From the items file to clean items: a pipeline over record batches that loses bad rows and shifts none."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.available import AvailabilityReader, type_of
from molar_retrieval.catalog.changes import ChangedItem, ItemChanges
from molar_retrieval.catalog.images import ImageError, PhotoFolder
from molar_retrieval.catalog.rejects import Rejects, with_new_ids
from molar_retrieval.catalog.resolve import field_column
from molar_retrieval.catalog.rows import Rows
from molar_retrieval.catalog.spec import CatalogueSpec
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.catalog.template import ATTRIBUTES, Template, attribute_phrase
from molar_retrieval.catalog.values import STRING_LIST, as_payload, as_phrase, payload_type, split_lists
from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE

TEXT = "text"
BATCH = 4_096
Changed = Sequence[Mapping[str, Any]]
"""Of each row the values by column that events have in the place of the file's; empty where no row has any."""
_NOTHING: Mapping[str, Any] = {}
_RESERVED = (ITEM_ID, TITLE, DESCRIPTION, IMAGE, TEXT)


def stored_names(spec: CatalogueSpec) -> dict[str, str]:
    """Under which name each payload column is stored; one that is taken gets ``_column`` at its end."""
    names: dict[str, str] = {}
    columns, taken = set(spec.items.payload), set(_RESERVED)
    for column in spec.items.payload:
        name = column
        while name in taken or (name != column and name in columns):
            name += "_column"
        names[column] = name
        taken.add(name)
    return names


def item_schema(spec: CatalogueSpec, source: TableSource, changed: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns of ``items.parquet``: the five fixed ones, then the payload, of the types that events need."""
    fields = [(name, pa.string()) for name in _RESERVED]
    roles = {column: role for role, column in spec.availability.items()}
    for column, name in stored_names(spec).items():
        if column in changed:
            own = changed[column]
        else:
            kind = source.schema.field(column).type
            own = type_of(roles[column], kind) if column in roles else payload_type(kind)
        fields.append((name, STRING_LIST if column in spec.items.lists else own))
    return pa.schema(fields)


class ItemReader:
    """Reads, checks and cleans the items of one catalogue, with what events change in them; iterate over it once."""

    def __init__(
        self,
        source: TableSource,
        spec: CatalogueSpec,
        folder: Path,
        rejects: Rejects,
        changes: ItemChanges | None = None,
    ) -> None:
        self._changes = changes
        self._added: Mapping[str, ChangedItem] = {}  # items of no file
        self._types = {} if changes is None else changes.types
        self.schema = item_schema(spec, source, self._types)  # of the batches
        self.rows = 0  # of the file, read so far
        self.roots: set[str] = set()  # top-level folders in which photos were looked for
        self.photos = hashlib.blake2b(digest_size=16)  # of path and size of those accepted
        self.source, self.spec, self.rejects = source, spec, rejects
        self._template = Template.parse(spec.text.template)
        self._stored = stored_names(spec)
        self._folder = PhotoFolder(folder, spec.images)
        self._available = AvailabilityReader(spec.availability, source, spec.interactions.time_zone)
        self._search = spec.items.image is None and (folder / spec.images).is_dir()
        self._top = spec.images.partition("/")[0]
        self._seen: dict[str, None] = {}
        if spec.items.image is None:
            self.roots.add(self._top)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        changed = {} if self._changes is None else self._changes.items
        variants = set[str]()  # of which events say something
        for rows in self._rows():
            ids = rows.batch[self.spec.items.item_id].to_pylist() if changed else ()
            if changed and self.source.variants is not None:
                variants.update(changed.keys() & pc.list_flatten(rows.batch[self.source.variants]).to_pylist())
            yield self._clean(rows, [changed[item_id].newer if item_id in changed else _NOTHING for item_id in ids])
        if self._changes is not None:
            yield from self._clean_added(self._changes.added(self._seen, variants))

    def _clean_added(self, items: Mapping[str, ChangedItem]) -> Iterator[pa.RecordBatch]:
        self._added, ids = items, list(items)
        for begin in range(0, len(ids), BATCH):
            some = ids[begin : begin + BATCH]
            numbers = np.array([items[item_id].number for item_id in some], np.int64)
            batch = pa.record_batch({self.spec.items.item_id: pa.array(some, pa.string())})
            yield self._clean(Rows(numbers, batch), [items[item_id].all for item_id in some])

    def head(self, count: int) -> pa.RecordBatch:
        """The first items, without a look at the photos of the others."""
        rows = next(self._rows(), None)
        if rows is None:
            return self.schema.empty_table().to_batches()[0]
        return self._clean(Rows(rows.numbers[:count], rows.batch.slice(0, count)))

    def _rows(self) -> Iterator[Rows]:
        items, file = self.spec.items, self.source.path.name
        there = self.source.schema.names
        payload = [column for column in items.payload if column in there]  # events may bring others
        columns = _present(items.item_id, *self._phrase_columns, items.image, *items.attributes, *payload)
        written = _present(items.item_id, items.image)
        listed = set(items.lists) & set(columns)
        written += listed if self.source.untyped else []  # 38,39 are two sizes where the settings say so
        for rows in self.source.batches(columns, BATCH, self.rejects, written):
            self.rows = max(self.rows, int(rows.numbers[-1]) if len(rows) else 0)
            split = rows.with_columns({name: split_lists(rows.batch[name], items.separator) for name in listed})
            yield with_new_ids(split, items.item_id, self._seen, self.rejects, file)

    def _clean(self, rows: Rows, changed: Changed = ()) -> pa.RecordBatch:
        items, n = self.spec.items, len(rows)
        ids = rows.batch[items.item_id]
        nothing = pa.nulls(n, pa.string())
        phrases = {name: self._phrase(rows, name, changed) for name in self._phrase_columns}
        texts = {
            TITLE: phrases[items.title] if items.title else nothing,
            DESCRIPTION: phrases[items.description] if items.description else nothing,
        }
        fixed = [ids, *texts.values(), self._images(rows, ids, changed), self._render(phrases, texts, n)]
        payload = [self._payload(rows, ids, column, changed) for column in items.payload]
        return pa.RecordBatch.from_arrays([*fixed, *payload], schema=self.schema)

    @cached_property
    def _phrase_columns(self) -> list[str]:
        items, fields = self.spec.items, self._template.fields
        named = [field_column(name, items) for name in fields if name != ATTRIBUTES]
        attributes = items.attributes if ATTRIBUTES in fields else ()
        return _present(items.title, items.description, *attributes, *named)

    def _render(self, phrases: dict[str, pa.Array], texts: dict[str, pa.Array], n: int) -> pa.Array:
        fields = {name: texts[name] if name in texts else phrases.get(name) for name in self._template.fields}
        if ATTRIBUTES in fields:
            listed = [name for name in self.spec.items.attributes if name not in fields]
            fields[ATTRIBUTES] = attribute_phrase({name: phrases[name] for name in listed}, n)
        return self._template.render(fields, n)

    def _phrase(self, rows: Rows, column: str, changed: Changed) -> pa.Array:
        given = _column(rows, column, pa.string())
        return self._overlaid(as_phrase(given), column, changed, as_phrase)

    def _images(self, rows: Rows, ids: pa.Array, changed: Changed) -> pa.Array:
        column = self.spec.items.image
        if column is None and not self._search:
            return pa.nulls(len(ids), pa.string())
        ids_here: list[str] = ids.to_pylist()
        if column is None:
            names = [self._folder.find(item_id) for item_id in ids_here]
        else:
            names = self._overlaid(_column(rows, column, pa.string()), column, changed).to_pylist()
        named = {i: name for i, name in enumerate(names) if name is not None and name.strip()}
        for name in named.values():
            top, slash, _ = name.replace("\\", "/").partition("/")
            self.roots.update({self._top, top if slash and top not in {"", ".", ".."} else ""})
        photos: list[str | None] = [None] * len(names)
        for i, photo in zip(named, self._folder.vet_all(named.values()), strict=True):
            if isinstance(photo, ImageError):
                self._reject(rows.numbers[i], ids_here[i], "photo not usable", f"{named[i]!r}: {photo.reason}")
            else:
                photos[i] = photo[0]
                self.photos.update(f"{photo[0]}\0{photo[1]}\0".encode())
        return pa.array(photos, pa.string())

    def _payload(self, rows: Rows, ids: pa.Array, column: str, changed: Changed) -> pa.Array:
        kind = self.schema.field(self._stored[column]).type
        given = _column(rows, column, kind)
        if column in self._available and len(given) > given.null_count:
            array, bad = self._available.read(column, given)
            self._reject_values(rows, ids, column, bad, given, "not understood, left empty", changed)
        else:
            array = as_payload(given, kind)
        if kind == pa.float64():
            bad = pc.fill_null(pc.invert(pc.is_finite(array)), False)
            if self._reject_values(rows, ids, column, bad, array, "not a finite number, left empty", changed):
                array = pc.if_else(bad, pa.scalar(None, kind), array)
        return self._overlaid(array, column, changed)

    def _overlaid(
        self, array: pa.Array, column: str, changed: Changed, change: Callable[[pa.Array], pa.Array] | None = None
    ) -> pa.Array:
        """A column with the values of events, after a change of these, in the place of those of the file."""
        places = [place for place, values in enumerate(changed) if column in values]
        if not places:
            return array
        kind = self._types[column]
        values = [changed[place][column] for place in places]
        numbers = kind == pa.float64()
        fresh = pa.array([float(v) if numbers and v is not None else v for v in values], kind)
        order = np.arange(len(array))
        order[places] = len(array) + np.arange(len(places))
        fresh = fresh if change is None else change(fresh)
        return pa.concat_arrays([array, fresh.cast(array.type)]).take(pa.array(order))

    def _reject_values(
        self, rows: Rows, ids: pa.Array, column: str, bad: pa.Array, values: pa.Array, kind: str, changed: Changed
    ) -> bool:
        """Reject the values of a column that a mask names and no event replaces; whether there are any in the mask."""
        found = np.flatnonzero(np.asarray(bad)).tolist()
        for i in found:
            if not changed or column not in changed[i]:
                self._reject(rows.numbers[i], ids[i].as_py(), kind, f"{column} is {values[i]}")
        return len(found) > 0

    def _reject(self, number: np.int64, item_id: str, kind: str, detail: str = "") -> None:
        file = f"event {self._added[item_id].event}" if item_id in self._added else self.source.path.name
        self.rejects.add(file, int(number), item_id, kind, detail)


def _column(rows: Rows, name: str, kind: pa.DataType) -> pa.Array:
    """A column of rows; nothing but nulls of a type where they do not have it, as those of items of no file."""
    return rows.batch[name] if name in rows.batch.schema.names else pa.nulls(len(rows), kind)


def _present(*columns: str | None) -> list[str]:
    return list(dict.fromkeys(name for name in columns if name is not None))
