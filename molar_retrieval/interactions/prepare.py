"""From the interactions file of a catalogue to the workspace's ``interactions`` artefact."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from molar_retrieval.catalog import rejects as side_file
from molar_retrieval.catalog.catalogue import Catalogue
from molar_retrieval.catalog.digest import file_stamps
from molar_retrieval.catalog.prepare import empty_partial, publish, refuse_changed
from molar_retrieval.catalog.rejects import Rejects, in_words
from molar_retrieval.catalog.sources import find_file, find_table
from molar_retrieval.catalog.spec import FILE_NAME, CatalogueSettings
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.columns import log_columns
from molar_retrieval.interactions.people import check_users
from molar_retrieval.interactions.read import LogReader, ordered, without_duplicates
from molar_retrieval.interactions.times import TimeParser
from molar_retrieval.interactions.users import user_keys
from molar_retrieval.interactions.write import KIND, READING, log_facts, log_fingerprint, write_tables
from molar_retrieval.pinned import pin
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.versions import library_versions
from molar_retrieval.workspace import Manifest, Workspace


def is_current(folder: Path, workspace: Workspace) -> bool:
    """Whether the workspace's log was made from the files as they are now, and for the items of its catalogue."""
    manifest = workspace[KIND].manifest
    return manifest is not None and manifest.facts.get("sources") == _sources(folder, workspace)


def prepare_interactions(folder: Path, workspace: Workspace, progress: Progress | None = None) -> Manifest:
    """Read, check and order a log into the workspace; nothing happens where its files have not changed.

    The manifest's facts count interactions, users, duplicates and rejects.

    Raises:
        MissingArtefactError: If the workspace has no catalogue yet.
        DataError: If the log is unusable as a whole, or was written to meanwhile.
        StaleArtefactError: If another catalogue was prepared meanwhile.
    """
    progress = progress or SILENT
    store = workspace[KIND]
    with workspace.lock(KIND), pin(workspace, "catalogue", work="molar align") as read:
        version, catalogue = read["catalogue"].require()
        inputs = {"catalogue": catalogue.fingerprint}
        current = store.manifest
        if current is not None and is_current(folder, read):
            # Of another version of the catalogue the ids are the same, something else in it has changed.
            return current if dict(current.inputs) == inputs else store.describe(replace(current, inputs=inputs))
        sources = _sources(folder, read)
        partial = empty_partial(store)
        with Rejects(partial / side_file.FILE_NAME) as rejects:
            facts = _write(folder, Catalogue(version, catalogue), partial, rejects, progress)
        facts["sources"] = sources
        name = log_fingerprint(catalogue, facts)
        settings = {"columns": facts.pop("columns"), "times": facts.pop("times")}
        versions = library_versions("pyarrow", "numpy")
        manifest = Manifest(KIND, name, inputs=inputs, settings=settings, facts=facts, versions=versions)
        refuse_changed(folder, sources, _sources(folder, read))
        read.confirm()
        progress.note(_summary(facts))
        return publish(workspace, KIND, partial, manifest)


def _write(folder: Path, catalogue: Catalogue, partial: Path, rejects: Rejects, progress: Progress) -> dict[str, Any]:
    settings = CatalogueSettings.read(folder)
    source = find_table(folder, "interactions", settings)
    if source is None:
        hint = "put interactions.parquet, .csv or .jsonl with user_id, item_id and timestamp there"
        raise DataError(f"{folder} has no interactions file", hint)
    path = source.path
    columns = log_columns(settings.interactions, source, catalogue.manifest.settings["items"]["item_id"])
    asked = settings.interactions
    times = TimeParser(asked.time_unit, asked.time_format, asked.time_zone)
    where = catalogue.manifest.settings.get("where")
    reader = LogReader(source, columns, catalogue.ids, times, rejects, chosen=where is not None)
    progress.start("reading the interactions", source.total)
    raw, user_ids = reader.read(progress)
    progress.finish()
    if not len(raw) and reader.others:
        raise DataError(f"no interaction in {path} is with an item where {where}", "choose by another condition")
    if not len(raw):
        remedy = "check that the item ids are those of the items file, or name the columns in catalog.toml"
        raise rejects.unusable(path, reader.rows, nothing="put at least one interaction into it", remedy=remedy)
    log = without_duplicates(ordered(raw))
    users = user_keys(user_ids)
    final = log.grouped(IdMap(users), catalogue.ids)
    facts: dict[str, Any] = {"rows": reader.rows, **log_facts(final), "duplicates": len(raw) - len(log)}
    facts["users_file"] = check_users(folder, settings.users, user_ids, rejects)
    facts |= {**rejects.facts, "columns": vars(columns), "times": times.read_as, "others": reader.others}
    write_tables(final, partial)
    return facts


def _summary(facts: dict[str, Any]) -> str:
    words = f"{facts['interactions']:,} interactions of {facts['users']:,} users with {facts['items']:,} items"
    if facts["others"]:
        words += f"; {facts['others']:,} with items that are not chosen"
    if facts["duplicates"]:
        words += f"; {facts['duplicates']:,} duplicates dropped"
    return words + in_words(facts)


def _sources(folder: Path, workspace: Workspace) -> dict[str, Any]:
    log, users = find_file(folder, "interactions"), find_file(folder, "users")
    names = [str(path.relative_to(folder)) for path in (log, users) if path is not None]
    catalogue = workspace["catalogue"].manifest
    return {
        "rules": READING,
        "files": file_stamps(folder, [FILE_NAME, *names]),
        "items": None if catalogue is None else catalogue.facts["ids"],
    }
