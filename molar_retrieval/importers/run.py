"""From published data to a catalogue."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from molar_retrieval.catalog.catalogue import ITEMS_FILE
from molar_retrieval.catalog.rejects import FILE_NAME as REJECTS_FILE
from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.spec import FILE_NAME as TOML_FILE
from molar_retrieval.errors import DataError, SettingsError, nearest
from molar_retrieval.ids import IdMap
from molar_retrieval.importers import write
from molar_retrieval.importers.amazon import open_amazon
from molar_retrieval.importers.hm import HM_LEVELS, open_hm
from molar_retrieval.importers.movielens import open_movielens
from molar_retrieval.importers.pixelrec import open_pixelrec
from molar_retrieval.importers.published import PublishedData
from molar_retrieval.progress import SILENT, Progress

_TOML = """\
# Written by `molar import {format}`; see docs/catalogue.md for what may stand here.

[items]
# Columns that enter the vectors beside title, description and photo; all others are for filters and display only.
attributes = {attributes}
{language}"""


FORMATS: Mapping[str, Callable[[Path, str], PublishedData]] = {
    "movielens": open_movielens,
    "amazon-2014": lambda folder, _: open_amazon("amazon-2014", folder),
    "amazon-2023": lambda folder, _: open_amazon("amazon-2023", folder),
    "pixelrec": open_pixelrec,
    "hm": open_hm,
}
"""By name: from the folder, and what an item is, to the opened data set."""
LEVELS = {"hm": HM_LEVELS}  # what an item may be, the default first, where there is a choice


def open_published(name: str, folder: Path, level: str | None = None) -> PublishedData:
    """Open a published data set in its layout; an unknown format or level is a SettingsError, bad files a DataError."""
    if name not in FORMATS:
        close = nearest(name, FORMATS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SettingsError(f"there is no format {name!r}", f"{hint}known are {', '.join(FORMATS)}")
    levels = LEVELS.get(name, ())
    if level is not None and level not in levels:
        hint = f"choose {' or '.join(levels)}" if levels else "leave --level out"
        raise SettingsError(f"{name} has no level {level!r}", hint)
    return FORMATS[name](folder, level or next(iter(levels), ""))


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote, and what it could not use.

    Attributes:
        used: Items with at least one interaction.
        users: Distinct users with at least one interaction.
        photos: Photos linked or copied.
        dropped: How many rows were left out, by reason; each is listed in ``rejects.parquet``.
        examples: One whole reason of each kind, with file and row.
        unused_dropped: Items left out because nobody interacted with them and the caller wanted it so.
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
    unused_dropped: int = 0
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
        return {**asdict(self), "folder": str(self.folder)}

    def lines(self) -> list[str]:
        """All of it for people."""
        words = (
            f"{self.items:,} items ({self.used:,} with interactions, {self.photos:,} with a photo), "
            f"{self.interactions:,} interactions of {self.users:,} users"
        )
        told = [f"{self.format} from {', '.join(self.files)} in {self.folder}: {words}"]
        if self.unused_dropped:
            told.append(f"left out: {self.unused_dropped:,} items without an interaction (--drop-unused)")
        for kind, n in self.dropped.items():
            told.append(f"left out: {n:,} × {kind} ({self.examples[kind]})")
        if self.dropped:
            told.append(f"each row left out is listed in {self.folder / 'rejects.parquet'}")
        return told


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
    stay unless ``drop_unused``. The folder, new, empty or to ``overwrite``, appears complete or not at all. ``photos``
    is the folder with them, where it is not the format's own; for ``hm``, ``level`` is ``product`` or ``article``. An
    unusable file or target is a DataError, an unknown format or level a SettingsError.
    """
    if not source.is_dir():
        raise DataError(f"there is no folder {source}", f"name the folder with the files of {format_} as published")
    published = open_published(format_, source, level)
    with write.new_folder(target, overwrite=overwrite) as partial:
        with Rejects(partial / REJECTS_FILE) as rejects:
            items = write.write_items(published.items, partial / ITEMS_FILE, rejects, progress)
            log = write.write_interactions(published, items, partial / write.LOG_FILE, rejects, progress)
            if published.users is not None:
                write.write_users(published.users, partial / write.USERS_FILE, rejects, progress)
        kept = items
        if drop_unused:
            write.keep_items(partial / ITEMS_FILE, log.used)
            kept = IdMap(items.array.filter(pa.array(log.used)))
        n_photos = write.link_photos(published, kept, photos, partial, progress)
        language = "" if not published.language else f'\n[text]\nlanguage = "{published.language}"\n'
        attributes = json.dumps(list(published.attributes))
        toml = _TOML.format(format=format_, attributes=attributes, language=language)
        (partial / TOML_FILE).write_text(toml, "utf-8", newline="\n")
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
        (partial / write.REPORT_FILE).write_text(json.dumps(told, ensure_ascii=False, indent=2) + "\n", "utf-8")
    return report
