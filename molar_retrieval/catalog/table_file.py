"""Writing a Parquet file piece by piece."""

from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

_BYTES = 32 << 20


class TableFile:
    """A Parquet file that gathers small batches into row groups of ``rows``, fewer where these are large.

    Without a schema and without any batch, no file is written.
    """

    def __init__(self, path: Path, schema: pa.Schema | None = None, rows: int = 262_144) -> None:
        self._path, self._schema, self._most = path, schema, rows
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
        if self._rows >= self._most or self._bytes >= _BYTES:
            self._flush()

    def __enter__(self) -> Self:
        if self._schema is not None:
            self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd")
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._writer is not None:
            if error is None:
                self._flush()
            self._writer.close()

    def _flush(self) -> None:
        if self._writer is not None and self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=max(self._rows, 1))
        self._waiting = []
        self._rows = self._bytes = 0
