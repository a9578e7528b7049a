"""From a catalogue folder to the workspace's ``catalogue`` artefact.

A pipeline over record batches loses bad rows and shifts none. Fingerprints of tables, and stamps of files (names, sizes
and times) tell whether data have changed.
"""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.data.catalogue import ITEMS_FILE
from molar_retrieval.data.event_log_reader import EventLogSnapshot, opened
from molar_retrieval.data.images import ImageError, PhotoFolder
from molar_retrieval.data.item_changes import ChangedItem, ItemChanges
from molar_retrieval.data.languages import common_language
from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.rows import FILE_NAME as REJECTS_FILE
from molar_retrieval.data.rows import Rejects, RowBatch, TableFile, in_words, with_new_ids
from molar_retrieval.data.schema import (
    ATTRIBUTES,
    FILE_NAME,
    LONG,
    AvailabilityReader,
    CatalogueConfig,
    CatalogueSchema,
    Template,
    attribute_phrase,
    find_file,
    items_source,
    resolve,
    type_of,
)
from molar_retrieval.data.values import (
    STRING_LIST,
    as_payload,
    as_phrase,
    is_string,
    join_present,
    kind_of,
    payload_type,
    split_lists,
)
from molar_retrieval.data.variants import write_variants
from molar_retrieval.errors import DataError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.filter_language import parse
from molar_retrieval.ranking.filters import matches
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import ArtefactStore, Manifest, Workspace
from molar_retrieval.workspace.resources import library_versions

_MODULUS = 1 << 128


class TableDigest:
    """Fed with record batches of one schema; equal rows in equal order give an equal result.

    Validity, lengths and values of a column go into streams of their own, so that batch borders leave no trace.
    """

    def __init__(self) -> None:
        self._streams: dict[str, hashlib.blake2b] = {}
        self._rows = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """Take in the next rows."""
        self._rows += len(batch)
        for field, column in zip(batch.schema, batch.columns, strict=True):
            self._add(f"{field.name}:{field.type}", column)

    def result(self) -> str:
        """The fingerprint of all rows so far."""
        digests = [[name, stream.hexdigest()] for name, stream in self._streams.items()]
        return fingerprint.of_json([self._rows, digests])

    def _add(self, name: str, array: pa.Array) -> None:
        self._feed(f"{name} present", pc.is_valid(array))
        if pa.types.is_list(array.type):
            self._feed(f"{name} lengths", pc.fill_null(pc.list_value_length(array), 0))
            self._add(f"{name} elements", pc.list_flatten(array))
        elif is_string(array.type):
            self._feed(f"{name} lengths", pc.fill_null(pc.binary_length(array), 0).cast(pa.int64()))
            self._feed(f"{name} values", "".join(array.drop_null().to_pylist()).encode())
        else:
            self._feed(f"{name} values", pc.fill_null(array, False if pa.types.is_boolean(array.type) else 0))

    def _feed(self, name: str, values: pa.Array | bytes) -> None:
        data = values if isinstance(values, bytes) else values.to_numpy(zero_copy_only=False).tobytes()
        self._streams.setdefault(name, hashlib.blake2b(digest_size=16)).update(data)


def file_stamps(folder: Path, names: Iterable[str]) -> dict[str, list[int] | None]:
    """Size and modification time (ns) of each named file in a folder; None for one that is not there."""
    stamps: dict[str, list[int] | None] = dict.fromkeys(names)
    for name in stamps:
        with suppress(OSError):
            found = (folder / name).stat()
            stamps[name] = [found.st_size, found.st_mtime_ns]
    return stamps


def tree_stamp(folder: Path, roots: Iterable[str]) -> dict[str, Any]:
    """One stamp for the files below some folders: their number, and a digest over path, size and modification time.

    ``roots`` are top-level folders in ``folder``, each with all below; ``""`` is that folder without its folders.
    Hashes are summed, so that a million files need neither sorting nor memory.
    """
    total, count = 0, 0
    roots = sorted(set(roots))
    for root in roots:
        for relative, size, modified in _files(folder / root, root, deep=bool(root)):
            digest = hashlib.blake2b(f"{relative}\0{size}\0{modified}".encode("utf-8", "surrogateescape"))
            total = (total + int.from_bytes(digest.digest()[:16], "big")) % _MODULUS
            count += 1
    return {"roots": roots, "files": count, "digest": f"{total:032x}"}


def _files(folder: Path, relative: str, deep: bool) -> Iterator[tuple[str, int, int]]:
    for path, folders, names in os.walk(folder):
        if not deep:
            folders.clear()
        for name in names:
            try:
                found = os.stat(f"{path}/{name}")  # noqa: PTH116
            except OSError:  # a broken link
                found = os.lstat(f"{path}/{name}")
            yield f"{relative}{path.removeprefix(str(folder))}/{name}", found.st_size, found.st_mtime_ns


TEXT = "text"
BATCH = 4_096
Changed = Sequence[Mapping[str, Any]]
"""Of each row the values by column that events have in the place of the file's; empty where no row has any."""
_NOTHING: Mapping[str, Any] = {}
_RESERVED = (ITEM_ID, TITLE, DESCRIPTION, IMAGE, TEXT)


def stored_names(spec: CatalogueSchema) -> dict[str, str]:
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


def item_schema(spec: CatalogueSchema, source: TableReader, changed: Mapping[str, pa.DataType]) -> pa.Schema:
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
        source: TableReader,
        spec: CatalogueSchema,
        folder: Path,
        rejects: Rejects,
        changes: ItemChanges | None = None,
    ) -> None:
        self._changes = changes
        self._added: Mapping[str, ChangedItem] = {}  # items of no file
        self._types = {} if changes is None else changes.types
        self.schema = item_schema(spec, source, self._types)  # of the batches
        self.rows = 0  # of the file, read so far
        self.photos = hashlib.blake2b(digest_size=16)  # of path and size of those accepted
        self.source, self.spec, self.rejects = source, spec, rejects
        self._template = Template.parse(spec.text.template)
        self._stored = stored_names(spec)
        self._folder = PhotoFolder(folder, spec.images)
        self._available = AvailabilityReader(spec.availability, source, spec.interactions.time_zone)
        self._search = spec.items.image is None and (folder / spec.images).is_dir()
        self._top = spec.images.partition("/")[0]
        self.roots = {self._top} if spec.items.image is None else set()  # top-level folders with photos
        self._seen: dict[str, None] = {}

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        changed = {} if self._changes is None else self._changes.items
        variants = set[str]()  # that events name
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
            yield self._clean(RowBatch(numbers, batch), [items[item_id].all for item_id in some])

    def head(self, count: int) -> pa.RecordBatch:
        """The first items, without a look at the photos of the others."""
        rows = next(self._rows(), None)
        if rows is None:
            return self.schema.empty_table().to_batches()[0]
        return self._clean(RowBatch(rows.numbers[:count], rows.batch.slice(0, count)))

    def _rows(self) -> Iterator[RowBatch]:
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

    def _clean(self, rows: RowBatch, changed: Changed = ()) -> pa.RecordBatch:
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
        named = [name for name in fields if name not in (ATTRIBUTES, TITLE, DESCRIPTION)]
        attributes = items.attributes if ATTRIBUTES in fields else ()
        return _present(items.title, items.description, *attributes, *named)

    def _render(self, phrases: dict[str, pa.Array], texts: dict[str, pa.Array], n: int) -> pa.Array:
        fields = {name: texts[name] if name in texts else phrases.get(name) for name in self._template.fields}
        if ATTRIBUTES in fields:
            listed = [name for name in self.spec.items.attributes if name not in fields]
            fields[ATTRIBUTES] = attribute_phrase({name: phrases[name] for name in listed}, n)
        return self._template.render(fields, n)

    def _phrase(self, rows: RowBatch, column: str, changed: Changed) -> pa.Array:
        given = _column(rows, column, pa.string())
        return self._overlaid(as_phrase(given), column, changed, as_phrase)

    def _images(self, rows: RowBatch, ids: pa.Array, changed: Changed) -> pa.Array:
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

    def _payload(self, rows: RowBatch, ids: pa.Array, column: str, changed: Changed) -> pa.Array:
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
        self, rows: RowBatch, ids: pa.Array, column: str, bad: pa.Array, values: pa.Array, kind: str, changed: Changed
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


def _column(rows: RowBatch, name: str, kind: pa.DataType) -> pa.Array:
    """A column of rows; nothing but nulls of a type where they do not have it, as those of items of no file."""
    return rows.batch[name] if name in rows.batch.schema.names else pa.nulls(len(rows), kind)


def _present(*columns: str | None) -> list[str]:
    return list(dict.fromkeys(name for name in columns if name is not None))


KIND = "catalogue"
RULES = 1  # number of the rules by which a catalogue is kept; a change of them makes every prepared catalogue stale
_ROW_GROUP = 131_072
_LANGUAGE_SAMPLE = 2_000


def is_current(folder: Path, workspace: Workspace, *, events: bool = True) -> bool:
    """Whether the workspace's catalogue was made from the files as they are now, told by size and time.

    With ``events`` the events that change items must be in it as well.
    """
    manifest = workspace[KIND].manifest
    if manifest is None:
        return False
    with opened(workspace) as state:
        return _is_current(folder, manifest, _last(state) if events else manifest.facts.get("last_change", 0))


def _is_current(folder: Path, manifest: Manifest, last: int) -> bool:
    if manifest.facts.get("last_change", 0) != last:
        return False
    before = manifest.facts.get("sources", {})
    return bool(before == _sources(folder, before.get("photos", {}).get("roots", ())))


def condition_of(workspace: Workspace) -> str | None:
    """The condition by which the workspace's catalogue was chosen; None: it is the whole, or there is none yet."""
    manifest = workspace[KIND].manifest
    where: str | None = None if manifest is None else manifest.settings.get("where")
    return where


def prepare_catalogue(
    folder: Path, workspace: Workspace, progress: Progress | None = None, *, where: str | None = None
) -> Manifest:
    """Read, check and clean a catalogue into the workspace: the items file and what events change in it.

    Nothing happens where the files have not changed and no event that changes an item came. What came last counts, by
    the file's modification time and the event's arrival; items that only events know follow those of the file.

    With ``where``, a condition on the items' attributes, only those that
    fulfil it are taken, as if there were no others. The manifest's facts count items and rejects, and name the last
    event that is in (``events``).

    Raises:
        DataError: If the catalogue is unusable as a whole, was written to meanwhile, or no item fulfils the condition.
        RequestError: If the condition is not understood.
        SettingsError: If ``catalog.toml`` has an unknown key.
    """
    progress = progress or SILENT
    store = workspace[KIND]
    with workspace.lock(KIND), opened(workspace) as state:
        current = store.manifest
        last = {} if state is None else {"events": state.last}
        if current is not None and condition_of(workspace) == where and _is_current(folder, current, _last(state)):
            facts = {**current.facts, **last, "folder": str(folder.resolve())}  # it may have moved
            now = replace(current, facts=facts)
            return current if now == current else store.update_manifest(now)
        before = _sources(folder)
        asked = CatalogueConfig.read(folder)
        source = items_source(folder, asked)
        spec = resolve(asked, source)
        partial = empty_partial(store)
        with Rejects(partial / REJECTS_FILE) as rejects:
            changes = None
            if state is not None and (change := _last(state)):
                changes = ItemChanges(source, spec, state.changes_of_items(), rejects)
                spec, last["last_change"] = changes.spec, change
            reader = ItemReader(source, spec, folder, rejects, changes)
            known = {} if current is None else current.facts
            facts = _write(reader, folder, where, partial, known, progress)
        refuse_changed(folder, before, _sources(folder))
        facts |= {"sources": {**before, "photos": tree_stamp(folder, reader.roots)}, **last}
        shaping = spec.model_dump(mode="json", include={"items", "text"})
        chosen = [] if where is None else [where]
        name = fingerprint.of_json([RULES, shaping, facts["content"], facts["photos"], *chosen])
        settings = {"items": shaping["items"], **shaping["text"], "where": where}
        settings["ignored_columns"] = spec.ignored_columns
        manifest = Manifest(KIND, name, settings=settings, facts=facts, versions=library_versions("pyarrow", "pillow"))
        counts = {"items": "items", "variants": "variants", "with_image": "with a photo"}
        counts["with_description"] = "described"
        told = [f"{facts[key]:,} {words}" for key, words in counts.items() if key in facts]
        progress.note(", ".join(told) + in_words(facts))
        return publish(workspace, KIND, partial, manifest)


def _last(state: EventLogSnapshot | None) -> int:
    """The last event that changes an item, by its number; 0 where there is none."""
    return 0 if state is None else state.last_of_items


def refuse_changed(folder: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Refuse, naming them, files that were written to while they were read: half of the one, half of the other."""
    stamps = [before["files"], after["files"]]
    changed = [name for name in sorted({*stamps[0], *stamps[1]}) if stamps[0].get(name) != stamps[1].get(name)]
    if changed:
        words = f"{' and '.join(changed)} of {folder} changed while it was read"
        raise DataError(words, "run again when the files are complete")


def empty_partial(store: ArtefactStore) -> Path:
    """An empty folder for a version whose name follows from its content."""
    folder = store.partial("preparing")
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def publish(workspace: Workspace, kind: str, partial: Path, manifest: Manifest) -> Manifest:
    """Make a finished version the live one; one with the live one's content takes the place of its files."""
    store = workspace[kind]
    live = store.current
    if live is not None and live.name == manifest.fingerprint:
        return store.update_manifest(manifest, partial)
    named = partial.with_name(f"{manifest.fingerprint}.partial")
    shutil.rmtree(named, ignore_errors=True)
    return Manifest.read(store.publish(partial.rename(named), manifest))


def _write(
    reader: ItemReader, folder: Path, where: str | None, partial: Path, known: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """Write the items and return the facts of the version; ``known`` are those of the previous one."""
    tally, fields = _Tally(), _kinds(reader)
    condition = None if where is None else parse(where, {ITEM_ID: "keyword", **fields})
    column = stored_names(reader.spec).get(reader.spec.variants or "")
    progress.start("reading the catalogue", reader.source.total)
    done = others = 0
    with TableFile(partial / ITEMS_FILE, reader.schema, _ROW_GROUP) as file:
        for batch in reader:
            chosen = batch
            if condition is not None:
                items = batch.select([ITEM_ID, *fields]).to_pylist()
                chosen = batch.filter(pa.array([matches(condition, item) for item in items], pa.bool_()))
            others += len(batch) - len(chosen)
            tally.add(chosen)
            file.write(chosen)
            progress.advance(reader.rows - done)
            done = reader.rows
    progress.finish()
    if not tally.items and others:
        raise DataError(f"none of {others:,} items fulfils {where!r}", "choose by another condition")
    if not tally.items:
        remedy = "correct the file, or name its columns in catalog.toml"
        nothing = "put at least one item into it"
        raise reader.rejects.unusable(reader.source.path, reader.rows, nothing=nothing, remedy=remedy)
    variants = {}
    if column is not None:
        variants = write_variants(partial, partial / ITEMS_FILE, column, reader.rejects, reader.source.path.name)
    return _facts(reader, folder, tally, known) | variants


class _Tally:
    """Counts and digests what is written."""

    def __init__(self) -> None:
        self.items = 0
        self.present = dict.fromkeys((DESCRIPTION, IMAGE), 0)
        self.content = TableDigest()
        self.ids = TableDigest()
        self.sample: list[str] = []
        self.beyond = Counter[str]()  # characters of a column beyond those of keywords

    def add(self, batch: pa.RecordBatch) -> None:
        self.items += len(batch)
        for name in self.present:
            self.present[name] += len(batch) - batch[name].null_count
        self.content.update(batch)
        self.ids.update(batch.select([ITEM_ID]))
        if len(self.sample) < _LANGUAGE_SAMPLE:
            texts = join_present([batch[TITLE], batch[DESCRIPTION]], " ").drop_null()
            self.sample += texts.slice(0, _LANGUAGE_SAMPLE - len(self.sample)).to_pylist()
        for field in batch.schema:
            if field.type == pa.string():
                characters = pc.sum(pc.utf8_length(batch[field.name])).as_py() or 0
                self.beyond[field.name] += characters - LONG * (len(batch) - batch[field.name].null_count)


def _facts(reader: ItemReader, folder: Path, tally: _Tally, known: Mapping[str, Any]) -> dict[str, Any]:
    spec, kinds = reader.spec, _kinds(reader)
    sample = fingerprint.of_json(tally.sample)
    detected = known["detected_language"] if known.get("language_sample") == sample else common_language(tally.sample)
    return {
        "folder": str(folder.resolve()),
        "items": tally.items,
        "with_description": tally.present[DESCRIPTION],
        "with_image": tally.present[IMAGE],
        **reader.rejects.facts,
        "attributes": list(spec.items.attributes),
        "payload": list(kinds),
        "renamed": {column: name for column, name in stored_names(spec).items() if column != name},
        "fields": {name: kind for name, kind in kinds.items() if tally.beyond[name] <= 0},
        "availability": {role: stored_names(spec)[column] for role, column in spec.availability.items()},
        "language": spec.text.language or detected,
        "detected_language": detected,
        "language_sample": sample,
        "content": tally.content.result(),
        "ids": tally.ids.result(),
        "photos": reader.photos.hexdigest(),
    }


def _kinds(reader: ItemReader) -> dict[str, str]:
    return {name: kind_of(reader.schema.field(name).type) for name in stored_names(reader.spec).values()}


def _sources(folder: Path, roots: Iterable[str] | None = None) -> dict[str, Any]:
    path = find_file(folder, "items")
    names = [FILE_NAME, *([str(path.relative_to(folder))] if path else [])]
    stamps: dict[str, Any] = {"rules": RULES, "files": file_stamps(folder, names)}
    if roots is not None:
        stamps["photos"] = tree_stamp(folder, roots)
    return stamps
