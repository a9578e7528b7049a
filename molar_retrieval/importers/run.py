"""From published data to a catalogue."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from molar_retrieval.catalog.catalogue import ITEMS_FILE
from molar_retrieval.catalog.rejects import FILE_NAME as REJECTS_FILE
from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.spec import FILE_NAME as TOML_FILE
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.importers.items import keep_items, write_items
from molar_retrieval.importers.log import LogFacts, write_log
from molar_retrieval.importers.photos import link_photos
from molar_retrieval.importers.published import Published
from molar_retrieval.importers.registry import open_published
from molar_retrieval.importers.report import ImportReport
from molar_retrieval.importers.tables import TableFile
from molar_retrieval.importers.target import LOG_FILE, REPORT_FILE, USERS_FILE, new_folder
from molar_retrieval.progress import SILENT, Progress

_TOML = """\
# Written by `molar import {format}`; see docs/catalogue.md for what may stand here.

[items]
# Columns that enter the vectors beside title, description and photo; all others are for filters and display only.
attributes = {attributes}
{language}"""


def import_dataset(
    format_: str,
    source: Path,
    target: Path,
    *,
    photos: Path | None = None,
    level: str | None = None,
    drop_unused: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ImportReport:
    """Turn published data, in exactly their official layout, into a catalogue folder.

    Interactions with items that the items file does not have are left out and counted; items without interactions
    stay unless ``drop_unused``. The folder appears complete or not at all.

    Args:
        format_: ``movielens``, ``amazon-2014``, ``amazon-2023``, ``pixelrec`` or ``hm``.
        source: The folder with the published files.
        target: The catalogue's folder: new, empty, or an earlier import that may be overwritten.
        photos: The folder with the photos, where it is not the format's own.
        level: For ``hm``: whether an item is a ``product`` (default) or an ``article``.
        drop_unused: Leave out items without any interaction.
        overwrite: Replace an earlier import.
        progress: Is told how far it is.

    Raises:
        DataError: If a file is missing or unusable as a whole, or the target holds something else.
        SettingsError: If there is no such format or level.
    """
    if not source.is_dir():
        raise DataError(f"there is no folder {source}", f"name the folder with the files of {format_} as published")
    published = open_published(format_, source, level)
    with new_folder(target, overwrite=overwrite) as partial:
        with Rejects(partial / REJECTS_FILE) as rejects:
            items = write_items(published, partial / ITEMS_FILE, rejects, progress)
            log = write_log(published, items, partial / LOG_FILE, rejects, progress)
            _write_users(published, partial, rejects, progress)
        kept = _without_unused(items, log, partial / ITEMS_FILE) if drop_unused else items
        n_photos = link_photos(published, kept, photos, partial, progress)
        _write_toml(published, format_, partial)
        report = ImportReport(
            folder=target,
            format=format_,
            files=_files(published),
            items=len(kept),
            used=int(np.count_nonzero(log.used)),
            users=log.users,
            interactions=log.interactions,
            photos=n_photos,
            dropped=dict(rejects.counts.most_common()),
            examples=rejects.first,
            unused_dropped=len(items) - len(kept),
            notes=tuple(published.notes),
        )
        _write_report(report, partial)
    return report


def _files(published: Published) -> tuple[str, ...]:
    paths = (published.items_file, published.log_file, published.users_file)
    return tuple(path.name for path in paths if path is not None)


def _write_report(report: ImportReport, folder: Path) -> None:
    told = {name: value for name, value in report.to_dict().items() if name != "folder"}  # folders move
    (folder / REPORT_FILE).write_text(json.dumps(told, ensure_ascii=False, indent=2) + "\n", "utf-8")


def _write_users(published: Published, partial: Path, rejects: Rejects, progress: Progress) -> None:
    if published.users_file is None:
        return
    progress.start(f"reading {published.users_file.name}", None)
    with TableFile(partial / USERS_FILE) as file:
        for rows in published.users(rejects):
            file.write(rows.batch)
            progress.advance(len(rows.numbers))
    progress.finish()


def _without_unused(items: IdMap, log: LogFacts, path: Path) -> IdMap:
    keep_items(path, log.used)
    return IdMap(items.array.filter(pa.array(log.used)))


def _write_toml(published: Published, format_: str, folder: Path) -> None:
    language = "" if published.language is None else f'\n[text]\nlanguage = "{published.language}"\n'
    attributes = json.dumps(list(published.attributes))
    text = _TOML.format(format=format_, attributes=attributes, language=language)
    (folder / TOML_FILE).write_text(text, "utf-8", newline="\n")
