"""The data files of a catalogue folder: finding and opening them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from molar_retrieval.catalog.csv_source import CsvSource
from molar_retrieval.catalog.jsonl_source import JsonlSource
from molar_retrieval.catalog.names import well_known
from molar_retrieval.catalog.parquet_source import ParquetSource
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.config import Settings
from molar_retrieval.errors import DataError, nearest

_READERS: dict[str, type[TableSource]] = {".parquet": ParquetSource, ".csv": CsvSource, ".jsonl": JsonlSource}
FORMATS = tuple(_READERS)


def find_file(folder: Path, stem: str) -> Path | None:
    """``folder/<stem>`` with a known extension, or None; a DataError if there are two, or only one that is not read."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", "name the folder with items.parquet, items.csv or items.jsonl")
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
    """The folder of a catalogue that was named itself or by its items file; a DataError for another file."""
    if not path.is_file():
        return path
    if path.name.partition(".")[0] != "items":
        raise DataError(
            f"{path} is a file with another name than items, and a catalogue is a folder",
            f"rename it to items{path.suffix}, or name the folder with the items file",
        )
    return path.parent


def open_source(path: Path) -> TableSource:
    """The reader for a file, by its extension; a DataError if the file cannot be read at all."""
    return _READERS[path.suffix](path)


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

    Excluded columns fill a role only if they are named; roles that none fills are left out. A DataError says that a
    named column is not there, or none fills a role that is needed.
    """
    columns, file = source.names, source.path.name
    named = {role: name for role in known if (name := getattr(settings, role)) is not None}
    for role, name in named.items():
        require_column(name, columns, file, f"{section}.{role}")
    free = [name for name in columns if name not in {*named.values(), *exclude}]
    found = {role: named.get(role) or well_known(names, free) for role, names in known.items()}
    for role in needed:
        if found[role] is None:
            hint = f'call it {role}, or name it in catalog.toml: [{section}] {role} = "…"'
            raise DataError(f"{file} has no {role} column; its columns are {', '.join(columns)}", hint)
    return {role: name for role, name in found.items() if name is not None}
