"""Rows of a file with their numbers, and which of them can be used."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Some rows of a file, with the row number of each in it, from 1."""

    numbers: npt.NDArray[np.int64]
    batch: pa.RecordBatch

    def __len__(self) -> int:
        return len(self.numbers)

    def where(self, keep: Mask) -> "Rows":
        """The rows of a mask; these themselves where it keeps all."""
        return self if keep.all() else Rows(self.numbers[keep], self.batch.filter(pa.array(keep)))

    def with_columns(self, columns: Mapping[str, pa.Array]) -> "Rows":
        """The rows with some columns replaced, or added at the end."""
        arrays = {**dict(zip(self.batch.schema.names, self.batch.columns, strict=True)), **columns}
        return Rows(self.numbers, pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays)))


class RowChecks:
    """Which of some rows are good so far; a bad one counts for the first thing that is wrong with it."""

    def __init__(self, count: int) -> None:
        self.good: Mask = np.ones(count, bool)
        # The others, ascending, with what is wrong with them and the column that shows it.
        self.failed: list[tuple[npt.NDArray[np.int64], str, str | None]] = []

    def __call__(self, fine: Mask, kind: str, column: str | None = None) -> None:
        """Keep the rows of a mask; what is wrong with the others is ``kind``, to be seen in ``column``."""
        bad = np.flatnonzero(self.good & ~fine)
        self.good &= fine
        if len(bad):
            self.failed.append((bad, kind, column))
