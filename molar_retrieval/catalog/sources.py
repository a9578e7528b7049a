"""The data files of a catalogue folder: finding and opening them."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from molar_retrieval.catalog.csv_source import CsvSource
from molar_retrieval.catalog.jsonl_source import JsonlSource
from molar_retrieval.catalog.names import well_known
from molar_retrieval.catalog.parquet_source import ParquetSource
from molar_retrieval.catalog.spec import FILE_NAME, CatalogueSettings
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.errors import DataError, nearest, shown
from molar_retrieval.workspace.settings import Settings

Stem = Literal["items", "interactions", "users"]
_READERS: dict[str, type[TableSource]] = {".parquet": ParquetSource, ".csv": CsvSource, ".jsonl": JsonlSource}
FORMATS = tuple(_READERS)
_OTHERS: dict[str, type[TableSource]] = {
    ".tsv": CsvSource,
    ".tab": CsvSource,
    ".txt": CsvSource,
    ".ndjson": JsonlSource,
    ".pq": ParquetSource,
}
"""Extensions of files that somebody names; by the name ``items`` only those of FORMATS are looked for."""
NAMED_FORMATS = (*_READERS, *_OTHERS)


def find_table(folder: Path, stem: Stem, settings: CatalogueSettings | None = None) -> TableSource | None:
    """The reader of a catalogue's items, log or users as ``catalog.toml`` says; None where there is no such file."""
    settings = CatalogueSettings.read(folder) if settings is None else settings
    path = find_file(folder, stem, settings)
    if path is None:
        return None
    source = open_source(path, getattr(settings, stem).encoding)
    source.decimal = None if stem == "users" else getattr(settings, stem).decimal
    return source


def find_file(folder: Path, stem: Stem, settings: CatalogueSettings | None = None) -> Path | None:
    """The file that ``catalog.toml`` names, else ``folder/<stem>`` with a known extension, else None.

    A DataError if the named file is not there or not below the folder, or by name there are two, or only one that is
    not read.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", "name the folder with items.parquet, items.csv or items.jsonl")
    settings = CatalogueSettings.read(folder) if settings is None else settings
    named = getattr(settings, stem).file
    return _by_name(folder, stem) if named is None else _named(folder, f"{FILE_NAME}: {stem}.file", named)


def _named(folder: Path, key: str, name: str) -> Path:
    """A file below the folder; nothing of a catalogue may name one elsewhere, as catalogues come from others, too."""
    path = folder / name
    below = os.path.realpath(path).startswith(os.path.realpath(folder).rstrip(os.sep) + os.sep)
    if "\0" in name or Path(name).is_absolute() or not below:
        words = f"{key} = {shown(name)} does not lie below {folder}"
        raise DataError(words, f"write its path relative to the folder of {FILE_NAME}, and keep it below that folder")
    if not path.is_file():
        raise DataError(f"{key} = {shown(name)}: there is no such file in {folder}", "name the file as it is called")
    reader_of(path)
    return path


def reader_of(path: Path) -> type[TableSource]:
    """The class that reads a file, by its extension; a DataError where none does."""
    reader = (_READERS | _OTHERS).get(path.suffix.lower())
    if reader is not None:
        return reader
    form = "an Excel file" if path.suffix.lower() in (".xlsx", ".xls", ".ods") else "a format that is not read"
    raise DataError(f"{path} is {form}", "save it as CSV (UTF-8), JSON lines or Parquet")


def _by_name(folder: Path, stem: str) -> Path | None:
    others = sorted(p for p in folder.glob(f"{stem}.*") if not p.name.endswith((".md", ".toml", ".txt")))
    found = [path for path in others if path.suffix in FORMATS]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"{folder} has {names}", f"keep one {stem} file and move the other away")
    if found and not found[0].is_file():
        raise DataError(f"{found[0]} is not a file", f"write one {stem} file, not a folder of parts")
    if not found and others:
        hint = f"save it as {stem}.parquet, {stem}.csv or {stem}.jsonl"
        raise DataError(f"{others[0]} has a format that is not read", hint)
    return found[0] if found else None


def folder_of(path: Path) -> Path:
    """The folder of a catalogue that was named itself, by its items file, or by a file that its ``catalog.toml`` names.

    A DataError for another file.
    """
    if not path.is_file():
        return path
    if path.name == FILE_NAME or path.name.partition(".")[0] == "items":
        return path.parent
    for folder in path.absolute().parents:
        if (folder / FILE_NAME).is_file() and any(path.samefile(named) for named in _all_named(folder)):
            return Path(os.path.relpath(folder)) if not path.is_absolute() else folder
    words = f"{path} is a file that no {FILE_NAME} names, and a catalogue is a folder"
    if _by_name(path.parent, "items") is not None:
        raise DataError(words, f"name the folder: {path.parent}")
    raise DataError(words, f"let `molar init {path}` write one, with the log of purchases beside it if there is one")


def _all_named(folder: Path) -> list[Path]:
    settings = CatalogueSettings.read(folder)
    named = [part.file for part in (settings.items, settings.interactions, settings.users)]
    return [folder / name for name in named if name is not None and (folder / name).is_file()]


def open_source(path: Path, encoding: str = "utf-8") -> TableSource:
    """The reader for a file, by its extension; a DataError if the file cannot be read at all."""
    reader = reader_of(path)
    return CsvSource(path, encoding) if reader is CsvSource else reader(path)


def require_column(column: str, names: Collection[str], file: str, key: str) -> str:
    """``column`` itself, if the file has it; else a DataError with the setting (``key``) and the nearest column."""
    if column in names:
        return column
    close = nearest(column, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"its columns are {', '.join(sorted(names))}"
    raise DataError(f"catalog.toml: {key} names the column {column!r}, which {file} does not have", hint)


def columns_by_role(
    settings: Settings,
    known: Mapping[str, Sequence[str]],
    source: TableSource,
    section: str,
    needed: Collection[str],
    exclude: Collection[str] = (),
) -> dict[str, str]:
    """The column that fills each role: the one that the settings name, else the first with a well-known name.

    An empty name says that there is none. Excluded columns fill a role only if they are named; roles that none fills
    are left out. A DataError says that a named column is not there, or none fills a role that is needed.
    """
    columns, file = source.names, source.path.name
    named = {role: name for role in known if (name := getattr(settings, role)) is not None}
    for role, name in named.items():
        if name or role in needed:
            require_column(name, columns, file, f"{section}.{role}")
    free = [name for name in columns if name not in {*named.values(), *exclude}]
    found = {role: named[role] if role in named else well_known(names, free) for role, names in known.items()}
    for role in needed:
        if found[role] is None:
            hint = f'call it {role}, or name it in catalog.toml: [{section}] {role} = "…"'
            raise DataError(f"{file} has no {role} column; its columns are {', '.join(columns)}", hint)
    return {role: name for role, name in found.items() if name}
