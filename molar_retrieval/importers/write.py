"""From published data to the files of a catalogue: items, a log of known items only, photos; all of them, or none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.catalog.catalogue import ITEMS_FILE
from molar_retrieval.catalog.images import EXTENSIONS, FOLDER
from molar_retrieval.catalog.rejects import FILE_NAME as REJECTS_FILE
from molar_retrieval.catalog.rejects import Rejects, with_new_ids
from molar_retrieval.catalog.rows import RowChecks, Rows
from molar_retrieval.catalog.spec import FILE_NAME as TOML_FILE
from molar_retrieval.catalog.table_file import TableFile
from molar_retrieval.columns import ITEM_ID, TIMESTAMP, USER_ID
from molar_retrieval.durable import link_or_copy
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.importers.published import PublishedData, PublishedTable
from molar_retrieval.interactions.read import present
from molar_retrieval.interactions.times import TimeParser
from molar_retrieval.progress import Progress

LOG_FILE = "interactions.parquet"
USERS_FILE = "users.parquet"
REPORT_FILE = "import.json"
_OURS = {ITEMS_FILE, LOG_FILE, USERS_FILE, REJECTS_FILE, REPORT_FILE, TOML_FILE, FOLDER}
_BATCH = 4_096
_TIME = pa.timestamp("ms", "UTC")
_KINDS = ("missing item id", "repeated item id")


def write_items(table: PublishedTable, path: Path, rejects: Rejects, progress: Progress) -> IdMap:
    """Write all items that have an id which no item before them had, and return the ids; none are a DataError."""
    seen: dict[str, None] = {}
    with TableFile(path) as file:
        for rows in _rows(table, rejects, progress):
            file.write(with_new_ids(rows, ITEM_ID, seen, rejects, table.path.name, _KINDS).batch)
    if not seen:
        raise DataError(f"{table.path} has no usable item", "check that it is the file as published")
    return IdMap(pa.array(list(seen), pa.large_string()))


def keep_items(path: Path, used: npt.NDArray[np.bool_]) -> None:
    """Rewrite an items file with those of its rows that are used."""
    kept = path.with_suffix(".kept")
    start = 0
    with pq.ParquetFile(path) as old, TableFile(kept) as new:
        for batch in old.iter_batches(_BATCH, use_threads=False):
            new.write(batch.filter(pa.array(used[start : start + len(batch)])))
            start += len(batch)
    kept.replace(path)


def write_users(table: PublishedTable, path: Path, rejects: Rejects, progress: Progress) -> None:
    """Write all users."""
    with TableFile(path) as file:
        for rows in _rows(table, rejects, progress):
            file.write(rows.batch)


def _rows(table: PublishedTable, rejects: Rejects, progress: Progress) -> Iterator[Rows]:
    progress.start(f"reading {table.path.name}", None)
    for rows in table.rows(rejects):
        yield rows
        progress.advance(len(rows))
    progress.finish()


@dataclass(frozen=True)
class ImportedLog:
    """What was written of a log: rows, distinct users, and which items occur (bool, as many as items)."""

    interactions: int
    users: int
    used: npt.NDArray[np.bool_]


def write_interactions(
    published: PublishedData, items: IdMap, path: Path, rejects: Rejects, progress: Progress
) -> ImportedLog:
    """Write the interactions with known items, in order, a batch at a time; a DataError if no row is usable."""
    name, before, times = published.log.path.name, rejects.total, TimeParser(published.time_unit)
    used, users, count, written = np.zeros(len(items), bool), set[str](), 0, 0
    with TableFile(path) as file:
        for rows in _rows(published.log, rejects, progress):
            item = items.rows(rows.batch[ITEM_ID])
            micros, timed = times.parse(rows.batch[TIMESTAMP])
            check = RowChecks(len(rows))
            check(present(rows.batch[USER_ID]), "missing user id")
            check(present(rows.batch[ITEM_ID]), "missing item id")
            check(timed, "missing or unreadable time", TIMESTAMP)
            check(item >= 0, "item unknown to the items file", ITEM_ID)
            rejects.add_failed(name, rows, check, ITEM_ID)
            moments = pa.array(micros // 1000, pa.int64()).cast(_TIME)
            batch = rows.with_columns({TIMESTAMP: moments}).where(check.good).batch
            first = [USER_ID, ITEM_ID, TIMESTAMP]
            file.write(batch.select([*first, *(name for name in batch.schema.names if name not in first)]))
            used[item[check.good]] = True
            users.update(pc.unique(batch[USER_ID]).to_pylist())
            count += len(rows)
            written += len(batch)
    if not written:
        nothing = "check that it is the file as published"
        remedy = "check that the items file and the log are of one and the same data set, as published"
        raise rejects.unusable(published.log.path, count, nothing=nothing, remedy=remedy, before=before)
    return ImportedLog(written, len(users), used)


def link_photos(published: PublishedData, items: IdMap, asked: Path | None, folder: Path, progress: Progress) -> int:
    """Bring the photos into a catalogue as ``images/<item_id>`` with their extension, and count them.

    They lie in the folder that was ``asked`` for, else in the format's own, if it exists. A DataError says that the
    former does not exist, or has no photo of any item.
    """
    source = asked or published.photos
    if not source.is_dir():
        if asked is not None:
            raise DataError(f"there is no folder {asked}", "name the folder with the photos, or leave the option out")
        return 0
    images = folder / FOLDER
    images.mkdir()
    listed: dict[str, dict[str, str]] = {}
    n = 0
    progress.start("linking photos", len(items))
    for item_id in items.array.to_pylist():
        # Such an id would lead out of the folder.
        names = () if {"/", "\\"} & set(item_id) else published.photo_names(item_id)
        photo = next((path for name in names if (path := _find(source, name, listed)) is not None), None)
        # A hard link to a symbolic link would be the link, not the photo.
        if photo is not None and (real := photo.resolve()).is_file():
            link_or_copy(real, images / f"{item_id}{photo.suffix.lower()}")
            n += 1
        progress.advance()
    progress.finish()
    if asked is not None and not n:
        example = next((name for i in items.array[:1].to_pylist() for name in published.photo_names(i)), "")
        raise DataError(f"{asked} has no photo of any item", f"photos are looked for as {asked / example}.jpg")
    return n


def _find(root: Path, name: str, listed: dict[str, dict[str, str]]) -> Path | None:
    """A photo by its name without the extension; ``listed`` keeps the files of each subfolder."""
    folder, _, stem = name.rpartition("/")
    if folder not in listed:
        place = root / folder
        files = [os.path.splitext(file) for file in os.listdir(place)] if place.is_dir() else []  # noqa: PTH122, PTH208
        known = [(stem, end) for stem, end in files if end.lower() in EXTENSIONS]
        known.sort(key=lambda file: -EXTENSIONS.index(file[1].lower()))  # of two, the first extension wins
        listed[folder] = {stem: stem + end for stem, end in known}
    file = listed[folder].get(stem)
    return None if file is None else root / folder / file


@contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A hidden folder beside ``target`` that takes its place when the body has succeeded, and is removed otherwise.

    An earlier import, and nothing else, is replaced with ``overwrite``, else a DataError. It is moved aside and back
    again should the last step fail, and deleted after that step only.
    """
    target = target.resolve()
    full = _check(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process that had the same number
    partial.mkdir()
    try:
        yield partial
        if full:
            _check(target, overwrite=overwrite)  # it may have changed meanwhile
            _swap(partial, target)
        else:
            partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check(target: Path, *, overwrite: bool) -> bool:
    """Whether there is something to replace."""
    if target.exists() and not target.is_dir():
        raise DataError(f"{target} is a file", "name a folder with --to")
    found = {path.name for path in target.iterdir()} if target.exists() else set()
    if not found:
        return False
    if REPORT_FILE not in found:
        raise DataError(f"{target} holds something that no import wrote", "name a new or an empty folder with --to")
    if not overwrite:
        raise DataError(f"{target} holds an earlier import", "name another folder, or replace it with --overwrite")
    if others := sorted(found - _OURS):
        hint = "move them elsewhere first, --overwrite replaces the whole folder"
        raise DataError(f"{target} also holds {', '.join(others)}, which no import wrote", hint)
    return True


def _swap(partial: Path, target: Path) -> None:
    old = partial.with_suffix(".old")
    target.rename(old)
    try:
        partial.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)
