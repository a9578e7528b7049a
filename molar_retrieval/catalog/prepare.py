"""From a catalogue folder to the workspace's ``catalogue`` artefact."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.attributes import LONG
from molar_retrieval.catalog.catalogue import ITEMS_FILE
from molar_retrieval.catalog.changes import ItemChanges
from molar_retrieval.catalog.digest import TableDigest, file_stamps, tree_stamp
from molar_retrieval.catalog.read import TEXT, ItemReader, stored_names
from molar_retrieval.catalog.rejects import FILE_NAME as REJECTS_FILE
from molar_retrieval.catalog.rejects import Rejects, in_words
from molar_retrieval.catalog.resolve import items_source, resolve
from molar_retrieval.catalog.sources import find_file
from molar_retrieval.catalog.spec import FILE_NAME, CatalogueSettings
from molar_retrieval.catalog.table_file import TableFile
from molar_retrieval.catalog.values import join_present, kind_of
from molar_retrieval.catalog.variants import VariantWriter
from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.errors import DataError
from molar_retrieval.events.snapshot import LogState, opened
from molar_retrieval.languages import common_language
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.filter_language import parse
from molar_retrieval.ranking.filters import matches
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import ArtefactStore, Manifest, Workspace
from molar_retrieval.workspace.resources import library_versions

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
            now = replace(
                current, facts={**current.facts, **last, "folder": str(folder.resolve())}
            )  # it may have moved
            return current if now == current else store.update_manifest(now)
        before = _sources(folder)
        asked = CatalogueSettings.read(folder)
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


def _last(state: LogState | None) -> int:
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
    """Write the items, and tell the facts of the version; ``known`` are those of the one before."""
    tally, fields = _Tally(reader.schema), _kinds(reader)
    condition = None if where is None else parse(where, {ITEM_ID: "keyword", **fields})
    column = stored_names(reader.spec).get(reader.spec.variants or "")
    variants = VariantWriter(column, reader.rejects, reader.source.path.name)
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
            variants.add(chosen)
            progress.advance(reader.rows - done)
            done = reader.rows
    progress.finish()
    if not tally.items and others:
        raise DataError(f"none of {others:,} items fulfils {where!r}", "choose by another condition")
    if not tally.items:
        remedy = "correct the file, or name its columns in catalog.toml"
        nothing = "put at least one item into it"
        raise reader.rejects.unusable(reader.source.path, reader.rows, nothing=nothing, remedy=remedy)
    return _facts(reader, folder, tally, known) | variants.write(partial, partial / ITEMS_FILE)


class _Tally:
    """Counts and digests what is written."""

    def __init__(self, schema: pa.Schema) -> None:
        self.items = 0
        self.present = dict.fromkeys((TITLE, DESCRIPTION, IMAGE, TEXT), 0)
        self.content = TableDigest(schema)
        self.ids = TableDigest(pa.schema([schema.field(ITEM_ID)]))
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
        "with_title": tally.present[TITLE],
        "with_description": tally.present[DESCRIPTION],
        "with_image": tally.present[IMAGE],
        "with_text": tally.present[TEXT],
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
