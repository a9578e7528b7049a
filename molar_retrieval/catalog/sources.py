"""The data files of a catalogue folder: finding them, and one way of reading Parquet, CSV and JSON lines.

A source is read in record batches, each with the row numbers of the file (1 is the first row of data), so that
rows which cannot be read leave no gap in the numbering and shift nothing.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.errors import DataError, nearest

FORMATS = (".parquet", ".csv", ".jsonl")


@dataclass(frozen=True)
class Rows:
    """Some rows of a file.

    Attributes:
        numbers: The row number of each in the file, from 1 (int64).
        batch: Their values.
    """

    numbers: npt.NDArray[np.int64]
    batch: pa.RecordBatch


class Source(Protocol):
    """A file of rows."""

    path: Path

    @property
    def names(self) -> list[str]:
        """The column names, without reading the whole file."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Names and types; a text file is read once to infer the types."""
        ...

    @property
    def total(self) -> int | None:
        """The number of rows, where the format knows it."""
        ...

    def batches(
        self, columns: Sequence[str], size: int, rejects: Rejects | None = None, as_written: Collection[str] = ()
    ) -> Iterator[Rows]:
        """Read some columns from beginning to end, in bounded memory.

        Args:
            columns: Which, in the order wanted.
            size: Most rows per batch, roughly.
            rejects: Takes the rows that are not readable as rows.
            as_written: Columns that come as strings, exactly as they stand in a text file (``007`` stays ``007``).

        Raises:
            DataError: If the file is damaged.
        """
        ...


def find_file(folder: Path, stem: str) -> Path | None:
    """``folder/<stem>`` with one of the known extensions, or None where there is no such file.

    Raises:
        DataError: If there are two, or only one in a format that is not read.
    """
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
        raise DataError(
            f"{others[0]} has a format that is not read", f"save it as {stem}.parquet, {stem}.csv or {stem}.jsonl"
        )
    return found[0] if found else None


def open_source(path: Path) -> Source:
    """The reader for a file, by its extension.

    Raises:
        DataError: If the file cannot be read at all.
    """
    if path.suffix == ".parquet":
        from molar_retrieval.catalog.parquet_source import ParquetSource

        return ParquetSource(path)
    if path.suffix == ".csv":
        from molar_retrieval.catalog.csv_source import CsvSource

        return CsvSource(path)
    from molar_retrieval.catalog.jsonl_source import JsonlSource

    return JsonlSource(path)


def require_column(column: str, names: Collection[str], file: str, key: str) -> str:
    """``column`` itself, if the file has it.

    Args:
        column: A name from ``catalog.toml``.
        names: The columns of the file.
        file: The file's name.
        key: The setting that named the column.

    Raises:
        DataError: Naming the nearest column.
    """
    if column in names:
        return column
    close = nearest(column, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"its columns are {', '.join(sorted(names))}"
    raise DataError(f"catalog.toml: {key} names the column {column!r}, which {file} does not have", hint)
