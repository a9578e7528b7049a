"""What tells whether data have changed: fingerprints of tables, and stamps of files (names, sizes and times)."""

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.workspace import fingerprint

_MODULUS = 1 << 128


class TableDigest:
    """Fed with record batches of one schema; equal rows in equal order give an equal result."""

    def __init__(self, schema: pa.Schema) -> None:
        self._names = [f"{field.name}:{field.type}" for field in schema]
        self._columns = [_ColumnDigest(field.type) for field in schema]
        self._rows = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """Take in the next rows."""
        self._rows += len(batch)
        for digest, column in zip(self._columns, batch.columns, strict=True):
            digest.update(column)

    def result(self) -> str:
        """The fingerprint of all rows so far."""
        columns = [digest.result() for digest in self._columns]
        return fingerprint.of_json([self._rows, self._names, columns])


class _ColumnDigest:
    """Validity, lengths and values of a column go into streams of their own, so batch borders leave no trace."""

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        self._streams = [hashlib.blake2b(digest_size=16) for _ in range(3)]
        self._elements = _ColumnDigest(kind.value_type) if pa.types.is_list(kind) else None

    def update(self, array: Any) -> None:
        validity, lengths, values = self._streams
        validity.update(_bytes(pc.is_valid(array)))
        if self._elements is not None:
            lengths.update(_bytes(pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64())))
            self._elements.update(pc.list_flatten(array))
        elif pa.types.is_string(self._kind) or pa.types.is_large_string(self._kind):
            filled = pc.fill_null(array, "")
            lengths.update(_bytes(pc.binary_length(filled).cast(pa.int64())))
            values.update(_string_bytes(filled))
        else:
            zero = pa.scalar(False if pa.types.is_boolean(self._kind) else 0, self._kind)
            values.update(_bytes(pc.fill_null(array, zero)))

    def result(self) -> list[Any]:
        nested = self._elements.result() if self._elements is not None else []
        return [*(stream.hexdigest() for stream in self._streams), nested]


def _bytes(array: Any) -> bytes:
    return bytes(array.to_numpy(zero_copy_only=False).tobytes())


def _string_bytes(array: Any) -> memoryview:
    array = array.cast(pa.large_string())
    _, offsets, data = array.buffers()
    if data is None or len(array) == 0:
        return memoryview(b"")
    borders = np.frombuffer(offsets, np.int64, count=len(array) + 1, offset=8 * array.offset)
    return memoryview(data)[int(borders[0]) : int(borders[-1])]


def file_stamps(folder: Path, names: Iterable[str]) -> dict[str, list[int] | None]:
    """Size and modification time (ns) of each named file in a folder; None for one that is not there."""
    stamps: dict[str, list[int] | None] = dict.fromkeys(names)
    for name in stamps:
        with suppress(OSError):
            found = (folder / name).stat()
            stamps[name] = [found.st_size, found.st_mtime_ns]
    return stamps


def tree_stamp(folder: Path, roots: Iterable[str]) -> dict[str, Any]:
    """One stamp for the files below some folders: their number, and a digest over path, size and modification time.

    ``roots`` are top-level folders in ``folder``, each with all below; ``""`` is that folder without its folders.
    Hashes are summed, so that a million files need neither sorting nor memory.
    """
    total, count = 0, 0
    roots = sorted(set(roots))
    for root in roots:
        for relative, size, modified in _files(folder / root, root, deep=bool(root)):
            digest = hashlib.blake2b(f"{relative}\0{size}\0{modified}".encode("utf-8", "surrogateescape"))
            total = (total + int.from_bytes(digest.digest()[:16], "big")) % _MODULUS
            count += 1
    return {"roots": roots, "files": count, "digest": f"{total:032x}"}


def _files(folder: Path, relative: str, deep: bool) -> Iterable[tuple[str, int, int]]:
    pending = [(str(folder), relative)]
    while pending:
        path, below = pending.pop()
        try:
            entries = os.scandir(path)
        except OSError:
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if deep:
                        pending.append((entry.path, f"{below}/{entry.name}"))
                    continue
                try:
                    found = entry.stat()
                except OSError:  # a broken link
                    found = entry.stat(follow_symlinks=False)
                yield f"{below}/{entry.name}", found.st_size, found.st_mtime_ns
