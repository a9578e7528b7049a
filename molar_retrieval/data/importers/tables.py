"""The files in which data sets are published: CSV, fields between ``::``, one object a line; plain or gzip.

Their official layouts are in ``layouts.toml``.
"""

import ast
import io
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.columns import TITLE
from molar_retrieval.data.readers import CsvReader
from molar_retrieval.data.rows import Rejects, RowBatch
from molar_retrieval.errors import DataError

_BATCH = 65_536
_REAL = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\s*$"
_WHOLE = r"^\s*[+-]?[0-9]{1,9}\s*$"

Parse = Callable[[bytes], Any]
Layout = Mapping[str, Any]
ObjectColumns = Mapping[str, tuple[Sequence[str], Callable[[Any], Any], pa.DataType]]
_FILE = (resources.files(__package__) / "layouts.toml").read_text("utf-8")
LAYOUTS: Mapping[str, Mapping[str, Any]] = tomllib.loads(_FILE)  # by format


def described(format_: str) -> dict[str, Any]:
    """What the layout of a format says about :class:`PublishedData`, by attribute."""
    known = ("attributes", "language", "time_unit", "notes")
    return {name: value for name, value in LAYOUTS[format_].items() if name in known}


@dataclass(frozen=True)
class PublishedTable:
    """A file read in bounded memory as batches of one schema, with row numbers; unreadable rows go to rejects."""

    path: Path
    rows: Callable[[Rejects], Iterator[RowBatch]]

    def then(self, shape: Callable[[RowBatch], RowBatch]) -> "PublishedTable":
        """The table with each batch given another shape."""
        return PublishedTable(self.path, lambda rejects: map(shape, self.rows(rejects)))


@dataclass(frozen=True)
class PublishedData:
    """A published data set, opened: its files are found and their headers are right.

    Attributes:
        items: ``item_id`` (string, null or repeated where the data are so), ``title`` and more.
        log: ``user_id`` and ``item_id`` (strings), ``timestamp`` (as the file has it), perhaps more.
        photos: Where the photos lie unless the caller says otherwise; it need not exist.
        attributes: The item columns that enter the vectors; all others are kept for display and filters.
        users: ``user_id`` (string) and more, or None.
        language: Of the texts, as in BCP 47, empty where it is not known.
        time_unit: Of times that are numbers: ``s``, ``ms`` or ``auto``.
        notes: What whoever uses the data should know.
        photo_names: Where the photo of an item may lie, best first: relative to the photos folder, without the
            extension. Called after the items have been read.
    """

    items: PublishedTable
    log: PublishedTable
    photos: Path
    attributes: Sequence[str]
    users: PublishedTable | None = None
    language: str = "en"
    time_unit: str = "s"
    notes: Sequence[str] = ()
    photo_names: Callable[[str], Sequence[str]] = lambda item_id: (item_id,)


def require_file(path: Path, format_: str) -> Path:
    """The path itself, if there is such a file; the DataError names the format that needs it."""
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}", f"{format_} is read from {path}; put it there")
    return path


def csv_table(path: Path, layout: Layout, format_: str) -> PublishedTable:
    """A CSV file of known columns, else a DataError; a value is a string as it is written (007 stays 007) or null."""
    source, columns = CsvReader(require_file(path, format_)), list(layout["columns"])
    missing = [name for name in columns if name not in source.names]
    if missing:
        words = f"{path} has no column {', '.join(missing)}; its columns are {', '.join(source.names)}"
        raise DataError(words, f"take the file as {format_} publishes it, with its header line")

    def rows(rejects: Rejects) -> Iterator[RowBatch]:
        for read in source.batches(columns, _BATCH, rejects, columns):
            yield _typed(read.numbers, read.batch.columns, layout)

    return PublishedTable(path, rows)


def colon_table(path: Path, layout: Layout) -> PublishedTable:
    """A file with ``::`` between the fields and no header; empty fields are null, a title may hold ``::`` itself.

    A line is UTF-8 or, as in MovieLens-1M, Latin-1. Lines with other fields are rejected.
    """
    fields = [f"(?P<{name}>{'.*' if name == TITLE else '[^:]*'})" for name in layout["columns"].values()]

    def rows(rejects: Rejects) -> Iterator[RowBatch]:
        source = lines(path)
        while chunk := [(number, _decoded(line)) for number, line in islice(source, _BATCH)]:
            numbers = np.array([number for number, _ in chunk], np.int64)
            found = pc.extract_regex(pa.array([line for _, line in chunk], pa.string()), f"^{'::'.join(fields)}$")
            good = np.asarray(pc.is_valid(found))
            for i in np.flatnonzero(~good):
                rejects.add(path.name, int(numbers[i]), None, "line of another form", repr(chunk[i][1][:60]))
            columns = found.filter(pa.array(good)).flatten()
            empty = pa.scalar(None, pa.string())
            yield _typed(numbers[good], [pc.if_else(pc.equal(c, ""), empty, c) for c in columns], layout)

    return PublishedTable(path, rows)


def object_table(path: Path, parse: Parse, columns: ObjectColumns, size: int) -> PublishedTable:
    """A file of one object a line, read ``size`` rows at a time.

    ``columns`` has by name in the catalogue: the key, or several whose values come as a list; what makes a value of
    what the file has; and the type.
    """
    wanted = {key for keys, _, _ in columns.values() for key in keys}

    def rows(rejects: Rejects) -> Iterator[RowBatch]:
        source = objects(path, parse, rejects)
        while chunk := [(number, {key: row.get(key) for key in wanted}) for number, row in islice(source, size)]:
            arrays = [
                pa.array(
                    [convert(row[keys[0]] if len(keys) == 1 else [row[k] for k in keys]) for _, row in chunk], kind
                )
                for keys, convert, kind in columns.values()
            ]
            numbers = np.array([number for number, _ in chunk], np.int64)
            yield RowBatch(numbers, pa.RecordBatch.from_arrays(arrays, list(columns)))

    return PublishedTable(path, rows)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1, in bounded memory, also of ``.gz``; else a DataError."""
    try:
        with io.BufferedReader(pa.input_stream(path)) as file:
            for number, line in enumerate(file, 1):
                if bare := line.strip():
                    yield number, bare
    except OSError as error:
        raise DataError(f"{path} cannot be read to its end: {error}", "fetch the file again") from error


def parse_loose(line: bytes) -> Any:
    """The value of a line of JSON or a Python literal (Amazon, 2014), else a ValueError; nothing is evaluated."""
    try:
        return json.loads(line)
    except ValueError:
        pass
    try:
        return ast.literal_eval(line.decode("utf-8"))
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from error


def objects(path: Path, parse: Parse, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with their line numbers; other lines are rejected."""
    for number, line in lines(path):
        try:
            value = parse(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield number, value
        else:
            rejects.add(path.name, number, None, "line is no object", repr(line[:60])[1:])


def as_numbers(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Strings as numbers of a type; null where there is none. An int64 may be written with a decimal point."""
    if kind == pa.int64():
        return as_numbers(array, pa.float64()).cast(kind, safe=False)
    pattern = _WHOLE if pa.types.is_integer(kind) else _REAL
    fine = pc.fill_null(pc.match_substring_regex(array, pattern), False)
    bare = pc.utf8_ltrim(pc.utf8_trim_whitespace(array), "+")
    return pc.if_else(fine, bare, pa.scalar(None, pa.string())).cast(kind, safe=False)


def _typed(numbers: npt.NDArray[np.int64], columns: Sequence[pa.Array], layout: Layout) -> RowBatch:
    rows = RowBatch(numbers, pa.RecordBatch.from_arrays(list(columns), list(layout["columns"].values())))
    types = layout.get("numbers", {})
    return rows.with_columns({n: as_numbers(rows.batch[n], pa.type_for_alias(kind)) for n, kind in types.items()})


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")
