"""Rows so far, on disk: vectors, records and reasons. They outlive ``kill -9``.

The folder of unfinished work::

    content/….partial/plan.json            written last: before it, there is nothing worth keeping
    content/….partial/plan.safetensors     batch of each row, place of each text
    content/….partial/texts.bin            what the encoder has to read, in catalogue order
    content/….partial/vectors.safetensors  one row per item, zeros until it is done
    content/….partial/records.bin          one record per item, written after its vector
    content/….partial/reasons.jsonl        rows whose photo was left out, and why
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.embedding.records import RECORD, Status, checksums, finished
from molar_retrieval.embedding.rowfile import RowFile, Rows, open_vectors, tensor_header, vector_dtype

VECTORS = "vectors.safetensors"
REASONS = "reasons.jsonl"
CHUNK = 1024


class Store:
    """Vectors and records of all rows of one version, filled in any order.

    Args:
        folder: Where its files are.
        vectors: Shape (n, dim), float32.
        records: One :data:`RECORD` per row.
        reasons: Why a row's photo (or the row) was left out, by row.
    """

    def __init__(self, folder: Path, vectors: RowFile, records: RowFile, reasons: dict[int, str]) -> None:
        self.folder = folder
        self.vectors = vectors
        self.records = records
        self.reasons = reasons

    @classmethod
    def create(cls, folder: Path, count: int, dim: int) -> Self:
        """A store of zeros; what the folder held before is overwritten."""
        (folder / REASONS).unlink(missing_ok=True)
        header = tensor_header(count, dim)
        vectors = RowFile.create(folder / VECTORS, vector_dtype(dim), count, header=header)
        return cls(folder, vectors, RowFile.create(folder / "records.bin", RECORD, count), {})

    @classmethod
    def open(cls, folder: Path, *, writable: bool) -> Self:
        """The store that an earlier process left in ``folder``.

        Raises:
            OSError: If one of its files is missing.
            StaleArtefactError: If one of them is damaged.
        """
        vectors = open_vectors(folder / VECTORS, writable=writable)
        records = RowFile(folder / "records.bin", RECORD, vectors.count, writable=writable)
        return cls(folder, vectors, records, _read_reasons(folder / REASONS))

    def write(
        self,
        rows: Rows,
        vectors: npt.NDArray[np.float32],
        records: npt.NDArray[Any],
        reasons: Mapping[int, str] | None = None,
    ) -> None:
        """Fill rows: reasons first, then vectors, then the records that make the rows count."""
        self._note(rows, reasons or {})
        self.vectors.write(rows, vectors)
        records["status"][(records["status"] == Status.DONE) & ~vectors.any(axis=1)] = Status.BLANK
        records["checksum"] = checksums(records, vectors)
        self.records.write(rows, records)

    def _note(self, rows: Rows, reasons: Mapping[int, str]) -> None:
        outdated = [row for row in rows.tolist() if row in self.reasons and row not in reasons] if self.reasons else []
        if not (reasons or outdated):
            return
        for row in outdated:
            del self.reasons[row]
        self.reasons.update(reasons)
        lines = [[int(row), reason] for row, reason in [*reasons.items(), *((row, None) for row in outdated)]]
        with (self.folder / REASONS).open("a", encoding="utf-8") as file:
            file.writelines("\n" + json.dumps(line) for line in lines)

    def chunks(self) -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[np.bool_]]]:
        """(first row, records, which of them are whole), in catalogue order."""
        for start in range(0, self.records.count, CHUNK):
            stop = min(start + CHUNK, self.records.count)
            records = self.records.read(start, stop)
            yield start, records, finished(records, self.vectors.read(start, stop))

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        self.vectors.sync()
        self.records.sync()

    def close(self) -> None:
        """Release the files."""
        self.vectors.close()
        self.records.close()


def _read_reasons(path: Path) -> dict[int, str]:
    """By row; a line that was cut off by a kill belongs to a row that is not done."""
    reasons: dict[int, str | None] = {}
    if path.exists():
        for line in path.read_text("utf-8", errors="replace").splitlines():
            try:
                row, reason = json.loads(line)
            except (ValueError, TypeError):
                continue
            reasons[int(row)] = reason
    return {row: str(reason) for row, reason in reasons.items() if reason is not None}
