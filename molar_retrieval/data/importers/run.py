"""From published data to the folder of a catalogue: items, a log of known items only, photos; all of them, or none."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.columns import ITEM_ID, TIMESTAMP, USER_ID
from molar_retrieval.data.catalogue import ITEMS_FILE
from molar_retrieval.data.images import EXTENSIONS, FOLDER
from molar_retrieval.data.importers.formats import (
    HM_LEVELS,
    LAYOUTS,
    PublishedData,
    PublishedTable,
    open_amazon,
    open_hm,
    open_movielens,
    open_pixelrec,
)
from molar_retrieval.data.rows import FILE_NAME as REJECTS_FILE
from molar_retrieval.data.rows import Rejects, RowBatch, RowChecks, TableFile, with_new_ids
from molar_retrieval.data.schema import FILE_NAME as TOML_FILE
from molar_retrieval.data.times import TimeParser
from molar_retrieval.data.variants import present_values
from molar_retrieval.errors import DataError, SettingsError, nearest
from molar_retrieval.ids import IdMap
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.files import link_or_copy

_LOG_FILE, _USERS_FILE, _REPORT_FILE = "interactions.parquet", "users.parquet", "import.json"
_OURS = {ITEMS_FILE, _LOG_FILE, _USERS_FILE, REJECTS_FILE, _REPORT_FILE, TOML_FILE, FOLDER}
_TIME = pa.timestamp("ms", "UTC")
_KINDS = ("missing item id", "repeated item id")
_NOTHING = "check that it is the file as published"
_TOML = """\
# Written by `molar import {format}`; see docs/catalogue.md for what may stand here.

[items]
# Columns that enter the vectors beside title, description and photo; all others are for filters and display only.
attributes = {attributes}
{language}"""
FORMATS: Mapping[str, Callable[[Path], PublishedData]] = {
    "movielens": open_movielens,
    "amazon-2014": partial(open_amazon, "amazon-2014"),
    "amazon-2023": partial(open_amazon, "amazon-2023"),
    "pixelrec": open_pixelrec,
    "hm": open_hm,
}


def open_published(name: str, folder: Path, level: str | None = None) -> PublishedData:
    """Open a published data set in its layout; an unknown format or level is a SettingsError, bad files a DataError."""
    if name not in FORMATS:
        close = nearest(name, FORMATS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SettingsError(f"there is no format {name!r}", f"{hint}known are {', '.join(FORMATS)}")
    if level is None:
        return FORMATS[name](folder)
    if name != "hm" or level not in HM_LEVELS:
        hint = f"choose {' or '.join(HM_LEVELS)}" if name == "hm" else "leave --level out"
        raise SettingsError(f"{name} has no level {level!r}", hint)
    return open_hm(folder, level)


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote, and what it could not use.

    Attributes:
        used: Items with at least one interaction.
        users: Distinct users with at least one interaction.
        photos: Photos linked or copied.
        dropped: How many rows were left out, by reason; each is listed in ``rejects.parquet``.
        examples: One whole reason of each kind, with file and row.
        notes: What whoever uses the data should know.
    """

    folder: Path
    format: str
    files: tuple[str, ...]
    items: int
    used: int
    users: int
    interactions: int
    photos: int
    dropped: Mapping[str, int]
    examples: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
        return {**asdict(self), "folder": str(self.folder)}

    def lines(self) -> list[str]:
        """The report as lines of text."""
        words = (
            f"{self.items:,} items ({self.used:,} with interactions, {self.photos:,} with a photo), "
            f"{self.interactions:,} interactions of {self.users:,} users"
        )
        told = [f"{self.format} from {', '.join(self.files)} in {self.folder}: {words}"]
        told += [f"left out: {n:,} × {kind} ({self.examples[kind]})" for kind, n in self.dropped.items()]
        if self.dropped:
            told.append(f"each row left out is listed in {self.folder / REJECTS_FILE}")
        return told


def import_dataset(
    format_: str,
    source: Path,
    target: Path,
    *,
    photos: Path | None = None,
    level: str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ImportReport:
    """Turn published data, in exactly their official layout, into a catalogue folder.

    Interactions with items that the items file does not have are left out and counted; items without interactions
    stay. The folder, new, empty or to ``overwrite``, appears complete or not at all. ``photos`` is the folder with
    them, where it is not the format's own; for ``hm``, ``level`` is ``product`` or ``article``. An unusable file or
    target is a DataError, an unknown format or level a SettingsError.
    """
    if not source.is_dir():
        raise DataError(f"there is no folder {source}", f"name the folder with the files of {format_} as published")
    published, layout = open_published(format_, source, level), LAYOUTS[format_]
    tables = [table for table in (published.items, published.log, published.users) if table is not None]
    with _new_folder(target, overwrite=overwrite) as partial:
        with Rejects(partial / REJECTS_FILE) as rejects:
            ids: dict[str, None] = {}
            name = published.items.path.name

            def new_items(rows: RowBatch) -> RowBatch:
                return with_new_ids(rows, ITEM_ID, ids, rejects, name, _KINDS)

            _write(published.items, partial / ITEMS_FILE, rejects, progress, new_items)
            if not ids:
                raise DataError(f"{published.items.path} has no usable item", _NOTHING)
            items = IdMap(pa.array(list(ids), pa.large_string()))
            log, before = _LogChecks(published.log, layout.get("time_unit", "s"), items, rejects), rejects.total
            _write(published.log, partial / _LOG_FILE, rejects, progress, log.check)
            if not log.kept:
                remedy = "check that the items file and the log are of one and the same data set, as published"
                path = published.log.path
                raise rejects.unusable(path, log.rows, nothing=_NOTHING, remedy=remedy, before=before)
            if published.users is not None:
                _write(published.users, partial / _USERS_FILE, rejects, progress)
        n_photos = _link_photos(published, items, photos, partial, progress)
        language = layout.get("language", "en")
        language = f'\n[text]\nlanguage = "{language}"\n' if language else ""
        attributes = json.dumps([*layout["attributes"], *published.more_attributes])
        toml = _TOML.format(format=format_, attributes=attributes, language=language)
        (partial / TOML_FILE).write_text(toml, "utf-8", newline="\n")
        report = ImportReport(
            folder=target,
            format=format_,
            files=tuple(table.path.name for table in tables),
            items=len(items),
            used=int(np.count_nonzero(log.used)),
            users=len(log.users),
            interactions=log.kept,
            photos=n_photos,
            dropped=dict(rejects.counts.most_common()),
            examples=rejects.first,
            notes=tuple(layout.get("notes", ())),
        )
        told = {name: value for name, value in report.to_dict().items() if name != "folder"}  # folders move
        (partial / _REPORT_FILE).write_text(json.dumps(told, ensure_ascii=False, indent=2) + "\n", "utf-8")
    return report


def _write(
    table: PublishedTable,
    path: Path,
    rejects: Rejects,
    progress: Progress,
    check: Callable[[RowBatch], RowBatch] = lambda rows: rows,
) -> None:
    """Write the rows of a table that pass a check, a batch at a time."""
    progress.start(f"reading {table.path.name}", None)
    with TableFile(path) as file:
        for rows in table.rows(rejects):
            file.write(check(rows).batch)
            progress.advance(len(rows))
    progress.finish()


class _LogChecks:
    """Keeps the interactions with known items, and counts: rows, distinct users, and which items occur."""

    def __init__(self, log: PublishedTable, unit: str, items: IdMap, rejects: Rejects) -> None:
        self.used = np.zeros(len(items), bool)
        self.users = set[str]()
        self.rows = self.kept = 0
        self._file, self._items, self._rejects = log.path.name, items, rejects
        self._times = TimeParser(unit)

    def check(self, rows: RowBatch) -> RowBatch:
        """The rows that can be used, user, item and time first."""
        item = self._items.rows(rows.batch[ITEM_ID])
        micros, timed = self._times.parse(rows.batch[TIMESTAMP])
        check = RowChecks(len(rows))
        check(present_values(rows.batch[USER_ID]), "missing user id")
        check(present_values(rows.batch[ITEM_ID]), "missing item id")
        check(timed, "missing or unreadable time", TIMESTAMP)
        check(item >= 0, "item unknown to the items file", ITEM_ID)
        self._rejects.add_failed(self._file, rows, check, ITEM_ID)
        good = rows.with_columns({TIMESTAMP: pa.array(micros // 1000, pa.int64()).cast(_TIME)}).where(check.good)
        self.used[item[check.good]] = True
        self.users.update(pc.unique(good.batch[USER_ID]).to_pylist())
        self.rows += len(rows)
        self.kept += len(good)
        names = dict.fromkeys([USER_ID, ITEM_ID, TIMESTAMP, *good.batch.schema.names])
        return RowBatch(good.numbers, good.batch.select(list(names)))


def _link_photos(published: PublishedData, items: IdMap, asked: Path | None, folder: Path, progress: Progress) -> int:
    """Bring the photos into a catalogue as ``images/<item_id>`` with their extension, and count them.

    They lie in the folder that was ``asked`` for, else in the format's own, if it exists. A DataError says that the
    former does not exist, or has no photo of any item.
    """
    source = asked or published.photos
    if not source.is_dir():
        if asked is not None:
            raise DataError(f"there is no folder {asked}", "name the folder with the photos, or leave the option out")
        return 0
    (folder / FOLDER).mkdir()
    endings = [ending for extension in EXTENSIONS for ending in (extension, extension.upper())]
    n = 0
    progress.start("linking photos", len(items))
    for item_id in items.array.to_pylist():
        # An id with a slash would lead out of the folder.
        names = () if {"/", "\\"} & set(item_id) else published.photo_names(item_id)
        paths = (source / f"{name}{ending}" for name in names for ending in endings)
        photo = next((path for path in paths if path.is_file()), None)
        if photo is not None:
            # A hard link to a symbolic link would be the link, not the photo.
            link_or_copy(photo.resolve(), folder / FOLDER / f"{item_id}{photo.suffix.lower()}")
            n += 1
        progress.advance()
    progress.finish()
    if asked is not None and not n:
        example = next((name for i in items.array[:1].to_pylist() for name in published.photo_names(i)), "")
        raise DataError(f"{asked} has no photo of any item", f"photos are looked for as {asked / example}.jpg")
    return n


@contextmanager
def _new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A hidden folder beside ``target`` that takes its place when the body has succeeded, and is removed otherwise.

    An earlier import, and nothing else, is replaced with ``overwrite``, else a DataError.
    """
    target = target.resolve()
    _check(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    old = partial.with_suffix(".old")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process that had the same number
    partial.mkdir()
    try:
        yield partial
        _check(target, overwrite=overwrite)  # it may have changed meanwhile
        if target.exists():
            target.rename(old)
        partial.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check(target: Path, *, overwrite: bool) -> None:
    """Refuse, with a DataError, to write where there is anything but an earlier import."""
    if target.exists() and not target.is_dir():
        raise DataError(f"{target} is a file", "name a folder with --to")
    found = {path.name for path in target.iterdir()} if target.exists() else set()
    if found and _REPORT_FILE not in found:
        raise DataError(f"{target} holds something that no import wrote", "name a new or an empty folder with --to")
    if found and not overwrite:
        raise DataError(f"{target} holds an earlier import", "name another folder, or replace it with --overwrite")
    if others := sorted(found - _OURS):
        hint = "move them elsewhere first, --overwrite replaces the whole folder"
        raise DataError(f"{target} also holds {', '.join(others)}, which no import wrote", hint)
