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
from molar_retrieval.importers.photos import link_photos
from molar_retrieval.importers.published import PublishedData
from molar_retrieval.importers.registry import open_published
from molar_retrieval.importers.report import ImportReport
from molar_retrieval.importers.target import LOG_FILE, REPORT_FILE, USERS_FILE, new_folder
from molar_retrieval.importers.write import keep_items, write_interactions, write_items, write_users
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
            items = write_items(published.items, partial / ITEMS_FILE, rejects, progress)
            log = write_interactions(published, items, partial / LOG_FILE, rejects, progress)
            if published.users is not None:
                write_users(published.users, partial / USERS_FILE, rejects, progress)
        kept = items
        if drop_unused:
            keep_items(partial / ITEMS_FILE, log.used)
            kept = IdMap(items.array.filter(pa.array(log.used)))
        n_photos = link_photos(published, kept, photos, partial, progress)
        _write_toml(published, format_, partial)
        report = ImportReport(
            folder=target,
            format=format_,
            files=tuple(t.path.name for t in (published.items, published.log, published.users) if t is not None),
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
        told = {name: value for name, value in report.to_dict().items() if name != "folder"}  # folders move
        (partial / REPORT_FILE).write_text(json.dumps(told, ensure_ascii=False, indent=2) + "\n", "utf-8")
    return report


def _write_toml(published: PublishedData, format_: str, folder: Path) -> None:
    language = "" if published.language is None else f'\n[text]\nlanguage = "{published.language}"\n'
    attributes = json.dumps(list(published.attributes))
    text = _TOML.format(format=format_, attributes=attributes, language=language)
    (folder / TOML_FILE).write_text(text, "utf-8", newline="\n")
