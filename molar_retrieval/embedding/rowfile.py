"""Files of equally long rows, read and written by position, and the safetensors header before them.

Positioned reads and writes rather than a writable memory map: the pages never count as this process's memory, and
a full disk is an error that can be reported instead of a signal that ends the process.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.errors import StaleArtefactError

Rows = npt.NDArray[np.int64]
TENSOR = "vectors"
_ALIGNMENT = 64
_LENGTH_BYTES = 8
_MAX_HEADER = 1 << 20
_CHUNK = 4096  # rows


class RowFile:
    """``count`` rows of one dtype that start ``offset`` bytes into a file. Thread-safe.

    Args:
        path: An existing file.
        dtype: Of one row; a vector of 64 floats is ``numpy.dtype(("<f4", (64,)))``.
        count: How many rows the file has room for.
        offset: Bytes before the first row.
        writable: Whether rows will be written.
    """

    def __init__(
        self, path: Path, dtype: np.dtype[Any], count: int, *, offset: int = 0, writable: bool = False
    ) -> None:
        self.path = path
        self.dtype = dtype
        self.count = count
        self._offset = offset
        self._file = os.open(path, os.O_RDWR if writable else os.O_RDONLY)

    @classmethod
    def create(cls, path: Path, dtype: np.dtype[Any], count: int, *, header: bytes = b"") -> Self:
        """A new file of zeros after ``header``."""
        with path.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + count * dtype.itemsize)
        return cls(path, dtype, count, offset=len(header), writable=True)

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """The rows ``start`` … ``stop - 1``; rows that the file lacks are an OSError."""
        size = (stop - start) * self.dtype.itemsize
        data = os.pread(self._file, size, self._offset + start * self.dtype.itemsize)
        if len(data) != size:
            raise OSError(f"{self.path} ends before row {stop}")
        return np.frombuffer(data, self.dtype.base).reshape(stop - start, *self.dtype.shape)

    def take(self, rows: Rows) -> npt.NDArray[Any]:
        """The rows at these positions, in this order."""
        out = np.empty((len(rows), *self.dtype.shape), self.dtype.base)
        for first, last in _runs(rows):
            out[first:last] = self.read(int(rows[first]), int(rows[last - 1]) + 1)
        return out

    def write(self, rows: Rows, values: npt.NDArray[Any]) -> None:
        """Write ``values[i]`` to row ``rows[i]``; the data survive the end of this process at once."""
        data = np.ascontiguousarray(values, self.dtype.base)
        for first, last in _runs(rows):
            view = memoryview(data[first:last].tobytes())
            position = self._offset + int(rows[first]) * self.dtype.itemsize
            while view:
                written = os.pwrite(self._file, view, position)
                view, position = view[written:], position + written

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Release the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _runs(rows: Rows) -> Iterator[tuple[int, int]]:
    """Ranges of positions whose rows follow one another, so that each is one system call."""
    if len(rows):
        borders = np.flatnonzero(np.diff(rows) != 1) + 1
        yield from zip([0, *borders.tolist()], [*borders.tolist(), len(rows)], strict=True)


def damaged_rows(file: RowFile) -> Rows:
    """The rows that hold a number that no encoder writes: NaN, or an infinite one."""
    found = []
    for start in range(0, file.count, _CHUNK):
        rows = file.read(start, min(start + _CHUNK, file.count))
        # A sum is finite where all numbers are: one pass instead of two; where it is not, the numbers are looked at.
        if not np.isfinite(rows.sum()):
            found.append(start + np.flatnonzero(~np.isfinite(rows).all(axis=1)))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def vector_dtype(dim: int) -> np.dtype[Any]:
    """The dtype of one row of a vectors file."""
    return np.dtype(("<f4", (dim,)))


def tensor_header(count: int, dim: int) -> bytes:
    """The start of a safetensors file with one float32 tensor ``vectors`` of shape (count, dim)."""
    entry = {"dtype": "F32", "shape": [count, dim], "data_offsets": [0, 4 * count * dim]}
    text = json.dumps({TENSOR: entry}, separators=(",", ":")).encode()
    padding = -(_LENGTH_BYTES + len(text)) % _ALIGNMENT
    text += b" " * padding
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def read_tensor_header(path: Path) -> tuple[int, int, int]:
    """What a vectors file says about itself: (rows, dimension, bytes before the first row).

    Raises:
        StaleArtefactError: If it is not a safetensors file with one float32 matrix ``vectors`` of the right length.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            entry = json.loads(file.read(min(length, _MAX_HEADER)))[TENSOR]
        count, dim = map(int, entry["shape"])
        offset = _LENGTH_BYTES + length + int(entry["data_offsets"][0])
        if entry["dtype"] != "F32" or path.stat().st_size < offset + 4 * count * dim:
            raise ValueError("the tensor is not float32 or the file is too short")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StaleArtefactError(
            f"{path} holds no content vectors: {error}", "run `molar embed CATALOG` again"
        ) from error
    return count, dim, offset


def open_vectors(path: Path, *, writable: bool = False) -> RowFile:
    """The rows of an existing vectors file."""
    count, dim, offset = read_tensor_header(path)
    return RowFile(path, vector_dtype(dim), count, offset=offset, writable=writable)
