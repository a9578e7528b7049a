"""safetensors files that are larger than memory: written piece by piece, read through a memory map or in pieces.

The safetensors library takes whole arrays and gives copies; its format is a length, a JSON header and the bytes.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.float32]
Ranks = npt.NDArray[np.int64]
"""Places in a ranking; 1 is the best."""
Rows = npt.NDArray[np.int64]
"""Numbers of rows: of users, items, cases, interactions."""


TYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U16": "<u2", "U8": "|u1", "BOOL": "|b1"}
"""NumPy's name of each safetensors type."""
_KINDS = {name[1:]: kind for kind, name in TYPES.items()}
_ALIGNMENT = 64
T = TypeVar("T")


def under(tensors: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The tensors whose names begin so, by what follows."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


class TensorsWriter:
    """A safetensors file with several tensors that grow side by side; it is written when the context is left.

    Until then each of them is a file without a name in the same folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._open = ExitStack()

    def append(self, name: str, rows: npt.NDArray[Any]) -> None:
        """Append rows, or numbers, to a tensor, which has the type and the width of its first ones."""
        kind, shape = self._tensors.get(name, (_KINDS.get(rows.dtype.str.lstrip("<>=|")), (0, *rows.shape[1:])))
        if kind is None or shape[1:] != rows.shape[1:]:
            raise ValueError(f"{rows.dtype} of the shape {rows.shape} cannot be appended to the tensor {name}")
        if name not in self._files:
            file = TemporaryFile(dir=self._path.parent)  # noqa: SIM115 - closed by __exit__
            self._files[name] = self._open.enter_context(file)
        self._tensors[name] = kind, (shape[0] + len(rows), *shape[1:])
        self._files[name].write(np.ascontiguousarray(rows, TYPES[kind]).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            if kind is None:
                with self._path.open("wb") as out:
                    out.write(_header(self._tensors))
                    for file in self._files.values():
                        file.seek(0)
                        shutil.copyfileobj(file, out, 1 << 20)


class MatrixWriter:
    """A safetensors file with one float32 matrix (rows, dim), zeros at first, whose rows are written in any order."""

    def __init__(self, path: Path, name: str, shape: tuple[int, int]) -> None:
        header = _header({name: ("F32", shape)})
        self.shape = shape
        self._start, self._width = len(header), 4 * shape[1]
        self._file = path.open("w+b")
        self._file.write(header)
        self._file.truncate(len(header) + shape[0] * self._width)

    def write(self, rows: npt.NDArray[np.int64], values: npt.NDArray[np.float32]) -> None:
        """Write ``values[i]`` to row ``rows[i]``; rows that follow one another are one write."""
        if not len(rows):
            return
        borders = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        data = np.ascontiguousarray(values, "<f4")
        for first, last in pairwise(borders):
            self._file.seek(self._start + int(rows[first]) * self._width)
            self._file.write(data[first:last].data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def mapped(path: Path, *, writable: bool = False) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a safetensors file as memory maps, read-only ones unless they are to be ``writable``.

    What is written to these stays in this process. A ValueError if the file is not what its header says.
    """
    mode: Literal["c", "r"] = "c" if writable else "r"
    # Plain arrays over the map: indexing a memmap itself costs ten times as much.
    return {
        name: np.asarray(np.memmap(path, dtype, mode, offset, shape)) if 0 not in shape else np.empty(shape, dtype)
        for name, (dtype, shape, offset) in _located(path).items()
    }


class Outside:
    """An array that grows in a file without a name: it takes no memory that the system cannot have back.

    The file ends with the array, or the process. An OSError where the disk is full.
    """

    def __init__(self, folder: Path, kind: npt.DTypeLike) -> None:
        self._file, self._kind = TemporaryFile(dir=folder), np.dtype(kind)  # noqa: SIM115 - closed by array()

    def append(self, values: npt.NDArray[Any]) -> None:
        """Append numbers, those of a matrix row by row."""
        self._file.write(np.ascontiguousarray(values, self._kind).data)

    def array(self) -> npt.NDArray[Any]:
        """All numbers in one row, mapped; nothing can be appended then. What is written to it stays in this process."""
        with self._file as file:
            file.flush()
            there = file.tell() > 0
            return np.asarray(np.memmap(file, self._kind, "c")) if there else np.empty(0, self._kind)


def outside(values: npt.NDArray[Any], folder: Path) -> npt.NDArray[Any]:
    """The same numbers, mapped from a file without a name in a folder, as :class:`Outside` has it."""
    array = Outside(folder, values.dtype)
    array.append(values)
    return array.array().reshape(values.shape)


def zeros_outside(count: int, kind: npt.DTypeLike, folder: Path) -> npt.NDArray[Any]:
    """So many zeros in a row, one at least, in a file without a name, where what is written to them lies as well."""
    with TemporaryFile(dir=folder) as file:
        return np.asarray(np.memmap(file, kind, "w+", shape=count))


def pieces(path: Path, name: str, rows: int = 1024) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """(first row, the next rows) of a matrix, read rather than mapped: pages do not count as this process's memory."""
    dtype, (count, width), offset = _located(path)[name]
    with path.open("rb") as file:
        file.seek(offset)
        for first in range(0, count, rows):
            here = min(rows, count - first)
            yield first, np.fromfile(file, dtype, here * width).reshape(here, width)


def _header(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    entries, offset = {}, 0
    for name, (kind, shape) in tensors.items():
        end = offset + int(np.prod(shape)) * np.dtype(TYPES[kind]).itemsize
        entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _located(path: Path) -> dict[str, tuple[np.dtype[Any], tuple[int, ...], int]]:
    """The type and shape of each tensor, and where in the file it begins."""
    found = {}
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > size:
            raise ValueError(f"{path} is no safetensors file, or it is too short")
        header = json.loads(file.read(length))
    try:
        for name, entry in header.items():
            if name != "__metadata__":
                dtype, shape = np.dtype(TYPES[entry["dtype"]]), tuple(map(int, entry["shape"]))
                start, end = entry["data_offsets"]
                if end - start != dtype.itemsize * int(np.prod(shape)) or 8 + length + end > size:
                    raise ValueError(f"the tensor {name} of {path} is too short")
                found[name] = dtype, shape, 8 + length + start
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the header of {path} is damaged: {error}") from error
    return found
