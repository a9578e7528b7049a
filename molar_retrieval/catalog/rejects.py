"""The side file for what could not be used: which file, which row, why."""

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [("file", pa.string()), ("row", pa.int64()), ("item_id", pa.string()), ("reason", pa.string())],
)
FILE_NAME = "rejects.parquet"
_FLUSH = 65_536


class Rejects:
    """Collects rejected rows into a Parquet file, in bounded memory.

    Args:
        path: The file to write.

    Attributes:
        counts: How many rejects there are of each kind.
        first: A whole reason of each kind, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[tuple[str, int, str | None, str]] = []

    def add(self, file: str, row: int, item_id: str | None, kind: str, detail: str = "") -> None:
        """Record one reject.

        Args:
            file: Name of the source file.
            row: Its row there: 1 is the first row of data.
            item_id: The item concerned, as far as known.
            kind: What is wrong; rejects are counted by it.
            detail: The value or the circumstances.
        """
        reason = f"{kind}: {detail}" if detail else kind
        self.counts[kind] += 1
        self.first.setdefault(kind, f"{file}, row {row}: {reason}")
        self._rows.append((file, int(row), item_id, reason))
        if len(self._rows) >= _FLUSH:
            self._flush()

    @property
    def total(self) -> int:
        """How many rejects there are."""
        return self.counts.total()

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(self._path, SCHEMA, compression="zstd")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            if error is None:
                self._flush()
            self._writer.close()

    def _flush(self) -> None:
        if self._rows and self._writer is not None:
            values = zip(*self._rows, strict=True)
            columns = [pa.array(v, field.type) for v, field in zip(values, SCHEMA, strict=True)]
            self._writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))
            self._rows.clear()
