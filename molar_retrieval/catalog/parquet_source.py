"""Reading Parquet a piece at a time."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows
from molar_retrieval.catalog.values import as_written as written
from molar_retrieval.errors import DataError

_BUFFER = 1 << 20


class ParquetSource:
    """A Parquet file; see :class:`~molar_retrieval.catalog.sources.Source`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                self._schema = file.schema_arrow.remove_metadata()
                self._total = int(file.metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error
        if len(set(self._schema.names)) < len(self._schema.names):
            raise DataError(f"{path} has two columns of one name", "rename one of them")

    @property
    def names(self) -> list[str]:
        """The column names."""
        return list(self._schema.names)

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return self._schema

    @property
    def total(self) -> int | None:
        """The number of rows."""
        return self._total

    def batches(
        self, columns: Sequence[str], size: int, rejects: Rejects | None = None, as_written: Collection[str] = ()
    ) -> Iterator[Rows]:
        """Read some columns; a buffered stream, so that a large row group does not have to fit into memory."""
        start = 1
        try:
            with pq.ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False) as file:
                for batch in file.iter_batches(size, columns=list(columns), use_threads=False):
                    arrays = [_column(batch[name], name in as_written) for name in columns]
                    numbers = np.arange(start, start + len(batch), dtype=np.int64)
                    yield Rows(numbers, pa.RecordBatch.from_arrays(arrays, list(columns)))
                    start += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.path, error) from error


def _column(array: pa.Array, as_written: bool) -> pa.Array:
    return written(array) if as_written else array


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is not a readable Parquet file: {error}", "write or copy the file again")
