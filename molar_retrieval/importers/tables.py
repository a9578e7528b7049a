"""Reading official CSV files, and writing Parquet in large row groups."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.catalog.csv_source import CsvSource
from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows
from molar_retrieval.errors import DataError

_ROWS = 262_144
_BYTES = 32 << 20
_BATCH = 65_536
_REAL = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\s*$"
_WHOLE = r"^\s*[+-]?[0-9]{1,9}\s*$"


def require_file(path: Path, format_: str) -> Path:
    """The path itself, if there is such a file.

    Raises:
        DataError: Naming the file, where it is looked for, and the format that needs it.
    """
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}", f"{format_} is read from {path}; put it there")
    return path


class OfficialCsv:
    """A CSV file of known columns.

    Args:
        path: The file.
        columns: What the columns that are wanted are called in the catalogue, by their official name.
        format_: The format, for messages.

    Raises:
        DataError: If the file is missing, or lacks a column.
    """

    def __init__(self, path: Path, columns: Mapping[str, str], format_: str) -> None:
        self.path = require_file(path, format_)
        self._columns = columns
        self._source = CsvSource(path)
        missing = [name for name in columns if name not in self._source.names]
        if missing:
            raise DataError(
                f"{path} has no column {', '.join(missing)}; its columns are {', '.join(self._source.names)}",
                f"take the file as {format_} publishes it, with its header line",
            )

    @property
    def names(self) -> list[str]:
        """What the columns are called in the catalogue."""
        return list(self._columns.values())

    def rows(self, rejects: Rejects) -> Iterator[Rows]:
        """All rows in bounded memory; every value is a string as it is written (007 stays 007), null where empty."""
        official = list(self._columns)
        for rows in self._source.batches(official, _BATCH, rejects, official):
            yield Rows(rows.numbers, pa.RecordBatch.from_arrays(rows.batch.columns, self.names))


def as_numbers(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Strings as numbers of a type; null where there is none."""
    pattern = _WHOLE if pa.types.is_integer(kind) else _REAL
    fine = pc.fill_null(pc.match_substring_regex(array, pattern), False)
    bare = pc.utf8_ltrim(pc.utf8_trim_whitespace(array), "+")
    return pc.if_else(fine, bare, pa.scalar(None, pa.string())).cast(kind, safe=False)


def with_columns(batch: pa.RecordBatch, columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """The batch with some columns replaced, or added at its end."""
    arrays = {**dict(zip(batch.schema.names, batch.columns, strict=True)), **columns}
    return pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))


class TableFile:
    """A Parquet file that gathers small batches into large row groups; a context manager.

    Args:
        path: The file to write. Without any batch, none is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch; all have one schema."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, batch.schema, compression="zstd")
        self._waiting.append(batch)
        self._rows += len(batch)
        self._bytes += batch.nbytes
        if self._rows >= _ROWS or self._bytes >= _BYTES:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            if error is None:
                self._flush()
            self._writer.close()

    def _flush(self) -> None:
        if self._writer is not None and self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=max(self._rows, 1))
        self._waiting = []
        self._rows = self._bytes = 0
