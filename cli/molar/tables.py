"""Tables on their way in: a data frame, a file or rows become the files of a catalogue's folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molar_retrieval.errors import DataError
from molar_retrieval.workspace.files import link_or_copy

if TYPE_CHECKING:
    import pyarrow as pa

ITEMS, INTERACTIONS, USERS = "items", "interactions", "users"
_ENDINGS = (".parquet", ".csv", ".jsonl")
_MARK = ".from-tables"
"""Says that a folder was made here, so that nobody's own files are replaced."""


def write_catalogue(
    folder: Path, tables: Mapping[str, Any], images: str | Path | None, columns: Mapping[str, Mapping[str, str]] | None
) -> None:
    """Write a catalogue's folder; one that an earlier call made is replaced where it differs.

    ``tables`` are, by name, a data frame (whatever speaks the Arrow PyCapsule interface), a file, rows or columns, with
    ``columns`` called as in ``catalog.toml``. Photos are linked where the file system can, else copied. Raises
    :class:`DataError` if the folder holds something else, or a table is none or has no ids, and :class:`SettingsError`
    if ``columns`` say what ``catalog.toml`` cannot say; nothing is written then.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise DataError(f"{folder} is not empty and was not made by from_tables", "name a new folder: folder=…")
    tables = {name: _read(source, name) for name, source in tables.items()}
    _require_ids(tables, columns or {})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    for name, source in tables.items():
        kept = None if source is None else source.suffix if isinstance(source, Path) else ".parquet"
        for ending in _ENDINGS:
            if ending != kept:
                (folder / f"{name}{ending}").unlink(missing_ok=True)
        if source is not None:
            _write(folder, name, source)
    if images is not None:
        _bring_photos(Path(images), folder / "images")
    _write_columns(folder / "catalog.toml", columns or {})


def as_table(source: Any, name: str) -> "pa.Table":
    """A table of whatever speaks the Arrow PyCapsule interface, of rows or columns; :class:`DataError` for others."""
    import pyarrow as pa

    try:
        if hasattr(source, "__arrow_c_stream__") or isinstance(source, Mapping):
            table = pa.table(source)
        elif isinstance(source, list | tuple):
            table = pa.Table.from_pylist(list(source))
        else:
            raise TypeError(f"a {type(source).__name__} is no table")
    except (AttributeError, TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"the {name} cannot be read: {error}",
            "bring a pandas, polars or pyarrow table, a list of dictionaries, or a file",
        ) from error
    index = [column for column in table.column_names if column.startswith("__index_level_")]
    return table.drop_columns(index).replace_schema_metadata(None)


def _read(source: Any, name: str) -> "Path | pa.Table | None":
    if source is None:
        return None
    if not isinstance(source, str | Path):
        return as_table(source, name)
    path = Path(source)
    if path.suffix not in _ENDINGS or not path.is_file():
        raise DataError(f"{path} is no table", f"name a file ending in {', '.join(_ENDINGS)}")
    return path


def _require_ids(tables: "Mapping[str, Path | pa.Table | None]", columns: Mapping[str, Mapping[str, str]]) -> None:
    """Every table has the ids of its rows: where ``columns`` say, else under a well-known name."""
    from molar_retrieval.data.column_names import ITEM_ID, LOG_ITEM_ID, USER_ID, well_known
    from molar_retrieval.data.schema import CatalogueConfig, open_source
    from molar_retrieval.workspace.settings import validated

    settings = validated(CatalogueConfig, columns, "columns")
    ids: dict[str, dict[str, tuple[str, ...]]] = {
        ITEMS: {"item_id": ITEM_ID},
        INTERACTIONS: {"user_id": USER_ID, "item_id": LOG_ITEM_ID},
        USERS: {"user_id": (*USER_ID, "id")},
    }
    for name, table in tables.items():
        if table is None:
            continue
        said = getattr(settings, name)
        names = open_source(table, said.encoding).names if isinstance(table, Path) else table.column_names
        for role, known in ids[name].items():
            wanted = getattr(said, role)
            if wanted not in names if wanted else well_known(known, names) is None:
                shown = f"its columns are {', '.join(names)}" if names else "it has no columns"
                raise DataError(
                    f"the table {name} has no column {wanted or role!r}; {shown}",
                    f'rename one, or say which it is: columns={{"{name}": {{"{role}": "{(names or ("…",))[0]}"}}}}',
                )


def _write(folder: Path, name: str, table: "Path | pa.Table") -> None:
    if isinstance(table, Path):
        _bring(table, folder / f"{name}{table.suffix}")
        return
    import pyarrow.parquet as pq

    target = folder / f"{name}.parquet"
    if target.exists() and pq.read_table(target).equals(table):
        return
    partial = target.with_suffix(".partial")
    pq.write_table(table, partial)
    partial.replace(target)


def _bring_photos(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise DataError(f"there is no folder {source}", "name the folder with the photos")
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        _bring(path, place)


def _bring(source: Path, target: Path) -> None:
    if target.exists():
        if target.samefile(source):
            return
        target.unlink()
    link_or_copy(source, target)


def _write_columns(path: Path, columns: Mapping[str, Mapping[str, str]]) -> None:
    lines = []
    for table, names in columns.items():
        quoted = (f"{key} = {json.dumps(name, ensure_ascii=False)}" for key, name in names.items())
        lines += [f"[{table}]", *quoted, ""]
    text = "\n".join(lines)
    if not text:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")
