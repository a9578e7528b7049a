"""A file of rows, numbered from 1 and read a piece at a time: what Parquet, CSV and JSON lines have in common."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from molar_retrieval.catalog.bounds import fitting
from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import Rows
from molar_retrieval.errors import DataError

Kinds = dict[str, pa.DataType]


class TableSource(ABC):
    """A file of rows; a DataError if it cannot be read at all."""

    form: str
    """What the format is called."""
    untyped: bool = False
    """Whether all values are words, so that reading them as written spares a pass to find out their types."""
    total: int | None = None
    variants: str | None = None
    """The column with the ids of an item's variants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.decimal: str | None = None
        """The decimal sign of numbers in text; None: the column must tell."""
        self.ambiguous_columns: dict[str, str] = {}
        """Columns of numbers that can be read in two ways, with the reason; they are words. Filled by the schema."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """The column names, without reading the whole file."""

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Names and types; a text file is read once to infer the types."""

    def batches(
        self, columns: Sequence[str], size: int, rejects: Rejects | None = None, as_written: Collection[str] = ()
    ) -> Iterator[Rows]:
        """Read some columns, in this order, from beginning to end in bounded memory, ``size`` rows at once, roughly.

        ``rejects`` takes the rows that are not readable as rows, or are beyond the bounds. Columns ``as_written`` are
        strings, exactly as they stand in a text file (``007`` stays ``007``). A damaged file is a DataError.
        """
        kinds = {name: pa.string() if name in as_written else self.schema.field(name).type for name in columns}
        try:
            yield from self._read(kinds, size, rejects, as_written)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def records(self, size: int, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row with its number, as an object by column name; nested ones where the format has them."""
        names = self.names
        for rows in self.batches(names, size, rejects, names if self.untyped else ()):
            yield from zip(rows.numbers.tolist(), rows.batch.to_pylist(), strict=True)

    @abstractmethod
    def _read(self, kinds: Kinds, size: int, rejects: Rejects | None, as_written: Collection[str]) -> Iterator[Rows]:
        """See :meth:`batches`; ``kinds`` has the wanted columns with their types."""

    def _fitting(self, rows: Rows, rejects: Rejects | None) -> Rows:
        return fitting(rows, self.path.name, rejects)

    def _unreadable(self, error: Exception, remedy: str = "write or copy the file again") -> DataError:
        return DataError(f"{self.path} is not a readable {self.form} file: {error}", remedy)
