"""Bounds on a table from outside: what its header claims is checked before it is read, its rows as they come.

A file of a few bytes can claim billions of rows, or unpack to terabytes. After this, values are of a known size, and
strings are Unicode.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import Mask, Rows
from molar_retrieval.catalog.values import decoded, is_list, is_string
from molar_retrieval.errors import DataError

MOST_COLUMNS = 10_000
LONGEST_NAME = 1_000  # characters of a column's name
MOST_ROWS = 2**31 - 1
LONGEST_VALUE = 1 << 20  # bytes of one value
MOST_ELEMENTS = 10_000  # elements of one list
_ROWS_A_BYTE, _UNPACKED = 100, 1_000  # rows for each byte of a file, and bytes that one of them may unpack to …
_FEW_ROWS, _FEW_BYTES = 1_000_000, 1 << 30  # … where there are more than these
_LITTLE = 1 << 16
_HINT = "write the file again, without what does not describe an item or an interaction"


def check_names(path: Path, names: Collection[str]) -> None:
    """Refuse a file with too many columns, too long a name, or two names that are alike, with a DataError."""
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{path} has {len(names):,} columns; {MOST_COLUMNS:,} are the most that are read", _HINT)
    for number, name in enumerate(names, 1):
        if len(name) > LONGEST_NAME:
            words = f"{path}: the name of column {number} has {len(name):,} characters ({name[:40]!r}…)"
            raise DataError(words, f"give it one of {LONGEST_NAME:,} at most")
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise DataError(f"{path} has two columns called {twice!r}", "rename one of them")


def check_parquet(path: Path, metadata: pq.FileMetaData) -> None:
    """Refuse, with a DataError, a file whose footer claims more than its size can hold, or too large values."""
    rows, size = int(metadata.num_rows), path.stat().st_size
    if rows > MOST_ROWS or rows > max(_FEW_ROWS, _ROWS_A_BYTE * size):
        raise DataError(f"{path} claims {rows:,} rows in {size:,} bytes", _HINT)
    unpacked, values = Counter[str](), Counter[str]()
    for chunk in _chunks(metadata):
        unpacked[chunk.path_in_schema] += int(chunk.total_uncompressed_size)
        values[chunk.path_in_schema] += int(chunk.num_values)
    check_unpacked(path, sum(unpacked.values()))
    for name, count in values.items():
        if count > MOST_ELEMENTS * max(rows, 1):
            words = f"{path}: the column {name!r} has {count:,} values in {rows:,} rows"
            raise DataError(words, f"keep {MOST_ELEMENTS:,} in a list at most")
        if unpacked[name] > LONGEST_VALUE * max(rows, 16):
            words = f"{path}: the column {name!r} has {unpacked[name]:,} bytes in {rows:,} rows"
            raise DataError(words, f"keep {LONGEST_VALUE:,} bytes in a value at most, or leave the column out")


def largest_chunks(metadata: pq.FileMetaData) -> dict[str, int]:
    """Unpacked bytes of each column in the row group in which it has most."""
    largest: dict[str, int] = {}
    for chunk in _chunks(metadata):
        largest[chunk.path_in_schema] = max(largest.get(chunk.path_in_schema, 0), int(chunk.total_uncompressed_size))
    return largest


def _chunks(metadata: pq.FileMetaData) -> Iterator[pq.ColumnChunkMetaData]:
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        yield from map(group.column, range(group.num_columns))


def check_unpacked(path: Path, count: int) -> None:
    """Refuse, with a DataError, a file that unpacks to a thousand times its size, and more than a gigabyte."""
    size = path.stat().st_size
    if count > max(_FEW_BYTES, _UNPACKED * size):
        raise DataError(f"{path} unpacks from {size:,} to {count:,} bytes and more", _HINT)


def fitting(rows: Rows, file: str, rejects: Rejects | None) -> Rows:
    """The rows whose values are Unicode and not too large, others are rejected; strings may be dictionary-encoded."""
    good = np.ones(len(rows), bool)
    found: dict[int, tuple[str, str]] = {}
    for name, array in zip(rows.batch.schema.names, rows.batch.columns, strict=True):
        for kind, bad in _faults(array):
            found |= dict.fromkeys(np.flatnonzero(bad & good).tolist(), (kind, f"in the column {name!r}"))
            good &= ~bad
    for place in sorted(found):
        if rejects is not None:
            rejects.add(file, int(rows.numbers[place]), None, *found[place])
    return rows.where(good)


def unpacked_bytes(array: pa.Array) -> int:
    """Bytes of an array once its dictionary is unpacked; as it is where these cannot be many."""
    packed = pa.types.is_dictionary(array.type) and is_string(array.type)
    if not packed or array.dictionary.nbytes * len(array) <= _LITTLE:
        return int(array.nbytes)
    lengths = pc.binary_length(array.dictionary).take(array.indices)
    return int(pc.sum(lengths).as_py() or 0) + 4 * len(array)


def _faults(array: pa.Array) -> Iterator[tuple[str, Mask]]:
    """What is wrong with values of strings or of lists, and with which of them."""
    if pa.types.is_dictionary(array.type):
        codes = np.asarray(array.indices.fill_null(len(array.dictionary)), np.int64)
        for kind, bad in _faults(array.dictionary):
            yield kind, np.append(bad, False)[codes]
    elif is_list(array.type):
        for kind, bad in _faults(pc.list_flatten(array)):
            whole = np.zeros(len(array), bool)
            whole[np.asarray(pc.list_parent_indices(array))[bad]] = True
            yield kind, whole
        if array.nbytes > MOST_ELEMENTS // 8:
            yield "value too large", _above(pc.list_value_length(array), MOST_ELEMENTS)
    elif is_string(array.type):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            values = array.view(pa.large_binary() if array.type != pa.string() else pa.binary()).to_pylist()
            yield "not UTF-8", np.array([value is not None and decoded(value) is None for value in values], bool)
        if array.nbytes > LONGEST_VALUE:
            yield "value too large", _above(pc.binary_length(array), LONGEST_VALUE)


def _above(sizes: pa.Array, most: int) -> Mask:
    return np.asarray(pc.fill_null(pc.greater(sizes, most), False))
