"""Reading Parquet a piece at a time."""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.catalog.bounds import check_names, check_parquet, check_unpacked, largest_chunks, unpacked_bytes
from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import Rows
from molar_retrieval.catalog.table_source import Kinds, TableSource
from molar_retrieval.catalog.values import as_written as written
from molar_retrieval.catalog.values import is_string

_BUFFER = 1 << 20
_UNPACKED_AT_ONCE = 64 << 20
_PACKED = 16 << 20  # most bytes of a column in a row group of which a dictionary, perhaps of all strings, is kept


class ParquetSource(TableSource):
    """A Parquet file; a buffered stream, so that a large row group does not have to fit into memory."""

    form = "Parquet"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with pq.ParquetFile(path) as file:
                names, types = file.schema_arrow.names, map(_plain, file.schema_arrow.types)
                self._schema = pa.schema(list(zip(names, types, strict=True)))
                self.total = int(file.metadata.num_rows)
                check_names(path, self._schema.names)
                check_parquet(path, file.metadata)
                strings = {field.name for field in self._schema if is_string(field.type)}
                self._packed = {n for n, size in largest_chunks(file.metadata).items() if size <= _PACKED} & strings
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    @property
    def names(self) -> list[str]:
        """The column names."""
        return list(self._schema.names)

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return self._schema

    def _read(self, kinds: Kinds, size: int, rejects: Rejects | None, as_written: Collection[str]) -> Iterator[Rows]:
        start, done = 1, 0
        # Repeated strings come once each, and are unpacked when it is known to what.
        packed = [name for name in kinds if name in self._packed]
        with pq.ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False, read_dictionary=packed) as file:
            for batch in file.iter_batches(size, columns=list(kinds), use_threads=False):
                numbers = np.arange(start, start + len(batch), dtype=np.int64)
                start += len(batch)
                plain = [field.with_type(_plain(field.type)) for field in batch.schema]
                rows = self._fitting(Rows(numbers, batch.cast(pa.schema(plain))), rejects)
                own = sum(map(unpacked_bytes, rows.batch.columns))
                done += own
                check_unpacked(self.path, done)
                for piece in _pieces(rows, -(-own // _UNPACKED_AT_ONCE)):
                    arrays = [self._unpacked(piece.batch[name], name, as_written) for name in kinds]
                    yield Rows(piece.numbers, pa.RecordBatch.from_arrays(arrays, list(kinds)))

    def _unpacked(self, array: pa.Array, name: str, as_written: Collection[str]) -> pa.Array:
        kind = self._schema.field(name).type
        if pa.types.is_dictionary(array.type) and not pa.types.is_dictionary(kind):
            array = array.cast(kind)
        return written(array) if name in as_written else array


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type under which values are read: not all functions of Arrow take views."""
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    return pa.string() if pa.types.is_string_view(kind) else kind


def _pieces(rows: Rows, count: int) -> Iterator[Rows]:
    """The rows in about so many pieces."""
    height = max(1, len(rows.numbers) // max(1, count))
    for begin in range(0, len(rows.numbers), height):
        yield Rows(rows.numbers[begin : begin + height], rows.batch.slice(begin, height))
