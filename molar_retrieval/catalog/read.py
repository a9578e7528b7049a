"""From the items file to clean items: a pipeline over record batches that loses bad rows and shifts none."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.images import FOLDER, ImageError, PhotoFolder
from molar_retrieval.catalog.rejects import Rejects, with_new_ids
from molar_retrieval.catalog.resolve import field_column
from molar_retrieval.catalog.rows import Rows
from molar_retrieval.catalog.spec import CatalogueSpec
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.catalog.template import ATTRIBUTES, Template, attribute_phrase
from molar_retrieval.catalog.values import as_payload, as_phrase, payload_type, split_lists
from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE

TEXT = "text"
BATCH = 4_096
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


def item_schema(spec: CatalogueSpec, source: TableSource) -> pa.Schema:
    """The columns of ``items.parquet``: the five fixed ones, then the payload."""
    fixed = [(name, pa.string()) for name in _RESERVED]
    kinds = {c: _kind(c, spec, source) for c in spec.items.payload}
    return pa.schema([*fixed, *((name, kinds[column]) for column, name in stored_names(spec).items())])


def _kind(column: str, spec: CatalogueSpec, source: TableSource) -> pa.DataType:
    if column in spec.items.lists:
        return pa.list_(pa.string())
    return payload_type(source.schema.field(column).type)


class ItemReader:
    """Reads, checks and cleans the items of one catalogue; iterate over it once.

    Args:
        source: The items file.
        spec: What its columns mean.
        folder: The catalogue's folder.
        rejects: Takes what cannot be used.

    Attributes:
        schema: Columns of the batches it yields.
        rows: Rows of the file read so far.
        roots: Top-level folders in which photos were looked for.
        photos: Digest of path and size of the photos accepted.
    """

    def __init__(self, source: TableSource, spec: CatalogueSpec, folder: Path, rejects: Rejects) -> None:
        self.schema = item_schema(spec, source)
        self.rows = 0
        self.roots: set[str] = set()
        self.photos = hashlib.blake2b(digest_size=16)
        self._source, self._spec, self._rejects = source, spec, rejects
        self._template = Template.parse(spec.text.template)
        self._stored = stored_names(spec)
        self._folder = PhotoFolder(folder)
        self._search = spec.items.image is None and (folder / FOLDER).is_dir()
        self._seen: dict[str, None] = {}
        if spec.items.image is None:
            self.roots.add(FOLDER)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        items = self._spec.items
        fields = [field_column(name, items) for name in self._template.fields if name != ATTRIBUTES]
        wanted = [
            items.item_id,
            items.title,
            items.description,
            items.image,
            *items.attributes,
            *items.payload,
            *fields,
        ]
        columns = list(dict.fromkeys(name for name in wanted if name is not None))
        written = {items.item_id, items.image} - {None}
        for rows in self._source.batches(columns, BATCH, self._rejects, {str(name) for name in written}):
            last = int(rows.numbers[-1]) if len(rows.numbers) else 0
            self.rows = max(self.rows, last)
            split = self._split(rows)
            yield self._clean(with_new_ids(split, items.item_id, self._seen, self._rejects, self._source.path.name))

    def _split(self, rows: Rows) -> Rows:
        named = set(self._spec.items.lists) & set(rows.batch.schema.names)
        return rows.with_columns({n: split_lists(rows.batch[n], self._spec.items.separator) for n in named})

    def _clean(self, rows: Rows) -> pa.RecordBatch:
        items, batch, n = self._spec.items, rows.batch, len(rows.numbers)
        ids = batch[items.item_id]
        nothing = pa.nulls(n, pa.string())
        phrases = {name: as_phrase(batch[name]) for name in self._phrase_columns()}
        texts = {
            TITLE: phrases[items.title] if items.title else nothing,
            DESCRIPTION: phrases[items.description] if items.description else nothing,
        }
        fixed = [ids, *texts.values(), self._images(rows, ids), self._render(phrases, texts, n)]
        payload = [self._payload(rows, ids, column) for column in items.payload]
        return pa.RecordBatch.from_arrays([*fixed, *payload], schema=self.schema)

    def _phrase_columns(self) -> list[str]:
        items = self._spec.items
        named = [field_column(name, items) for name in self._template.fields if name != ATTRIBUTES]
        attributes = items.attributes if ATTRIBUTES in self._template.fields else ()
        return list(dict.fromkeys(c for c in (items.title, items.description, *attributes, *named) if c is not None))

    def _render(self, phrases: dict[str, pa.Array], texts: dict[str, pa.Array], n: int) -> pa.Array:
        fields = {name: texts[name] if name in texts else phrases.get(name) for name in self._template.fields}
        if ATTRIBUTES in fields:
            listed = [name for name in self._spec.items.attributes if name not in fields]
            fields[ATTRIBUTES] = attribute_phrase({name: phrases[name] for name in listed}, n)
        return self._template.render(fields, n)

    def _images(self, rows: Rows, ids: pa.Array) -> pa.Array:
        column = self._spec.items.image
        if column is None and not self._search:
            return pa.nulls(len(ids), pa.string())
        names: list[str | None] = rows.batch[column].to_pylist() if column else self._searched(ids.to_pylist())
        named = [name if name is not None and name.strip() else None for name in names]
        for name in filter(None, named):
            top, slash, _ = name.replace("\\", "/").partition("/")
            self.roots.update({FOLDER, top if slash and top not in {"", ".", ".."} else ""})
        vetted = iter(self._folder.vet_all(filter(None, named)))
        found = [None if name is None else next(vetted) for name in named]
        photos: list[str | None] = [None] * len(found)
        for i, photo in enumerate(found):
            if isinstance(photo, ImageError):
                self._reject(rows.numbers[i], ids[i].as_py(), "photo not usable", f"{named[i]!r}: {photo.reason}")
            elif photo is not None:
                photos[i] = photo[0]
                self.photos.update(f"{photo[0]}\0{photo[1]}\0".encode())
        return pa.array(photos, pa.string())

    def _searched(self, ids: list[str]) -> list[str | None]:
        return [self._folder.find(item_id) for item_id in ids]

    def _payload(self, rows: Rows, ids: pa.Array, column: str) -> pa.Array:
        kind = self.schema.field(self._stored[column]).type
        array = as_payload(rows.batch[column], kind)
        if kind != pa.float64():
            return array
        bad = pc.fill_null(pc.invert(pc.is_finite(array)), False)
        if pc.any(bad, min_count=0).as_py():
            for i in np.flatnonzero(np.asarray(bad)):
                self._reject(
                    rows.numbers[i], ids[i].as_py(), "not a finite number, left empty", f"{column} is {array[i]}"
                )
            array = pc.if_else(bad, pa.scalar(None, kind), array)
        return array

    def _reject(self, number: np.int64, item_id: str | None, kind: str, detail: str = "") -> None:
        self._rejects.add(self._source.path.name, int(number), item_id, kind, detail)
