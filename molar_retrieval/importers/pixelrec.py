"""PixelRec: a CSV of interactions, one of item information, and covers called ``<item_id>.jpg``.

Source: Cheng et al., An Image Dataset for Benchmarking Recommender Systems with Raw Pixels, SDM 2024. The files are
called after the subset (``Pixel200K.csv``, ``Pixel1M.csv`` …), so that they are told apart by their headers.
"""

import csv
from pathlib import Path

from molar_retrieval.errors import DataError
from molar_retrieval.importers.tables import LAYOUTS, PublishedData, PublishedTable, csv_table, described

_PHOTOS = ("images", "cover", "covers")


def open_pixelrec(folder: Path, _: str = "") -> PublishedData:
    """Open a folder with the two files in it or in subfolders; a DataError if one is missing or not clear."""
    photos = next((folder / name for name in _PHOTOS if (folder / name).is_dir()), folder / _PHOTOS[0])
    log = _find(folder, "log", unlike="title")
    return PublishedData(_find(folder, "items"), log, photos, **described("pixelrec"))


def _find(folder: Path, table: str, unlike: str | None = None) -> PublishedTable:
    """The one CSV file, in the folder or a subfolder, that has the columns."""
    layout = LAYOUTS["pixelrec"][table]
    columns = layout["columns"]
    files = sorted([*folder.glob("*.csv"), *folder.glob("*/*.csv")])
    found = [path for path in files if {*columns} <= (names := _header(path)) and unlike not in names]
    if not found:
        hint = "pixelrec is read from the CSV of interactions and the one of item information, in it or in subfolders"
        raise DataError(f"{folder} has no CSV file with the columns {','.join(columns)}", hint)
    if len(found) > 1:
        listed = " and ".join(str(path.relative_to(folder)) for path in found)
        raise DataError(f"{folder} has {listed}, which have the same columns", "keep the one that is meant")
    return csv_table(found[0], layout, "pixelrec")


def _header(path: Path) -> set[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return {name.strip() for name in next(csv.reader([file.readline()]), [])}
