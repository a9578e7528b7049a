"""Rows of a file with their numbers: which can be used, within which bounds, and the side file of those that cannot.

A file of a few bytes can claim billions of rows, or unpack to terabytes: what its header claims is checked before it
is read, its rows as they come. After this, values are of a known size, and strings are Unicode.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.data.values import decoded, is_list, is_string, shown
from molar_retrieval.errors import DataError

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RowBatch:
    """Some rows of a file, with the row number of each in it, from 1."""

    numbers: npt.NDArray[np.int64]
    batch: pa.RecordBatch

    def __len__(self) -> int:
        return len(self.numbers)

    def where(self, keep: Mask) -> "RowBatch":
        """The rows of a mask; these themselves where it keeps all."""
        return self if keep.all() else RowBatch(self.numbers[keep], self.batch.filter(pa.array(keep)))

    def with_columns(self, columns: Mapping[str, pa.Array]) -> "RowBatch":
        """The rows with some columns replaced, or added at the end."""
        arrays = {**dict(zip(self.batch.schema.names, self.batch.columns, strict=True)), **columns}
        return RowBatch(self.numbers, pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays)))


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


SCHEMA = pa.schema([("file", pa.string()), ("row", pa.int64()), ("item_id", pa.string()), ("reason", pa.string())])
FILE_NAME = "rejects.parquet"
_FLUSH = 65_536


class Rejects(TableFile):
    """Collects rejected rows into a Parquet file, in bounded memory; unless this is entered, they are only counted."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA)
        self.counts: Counter[str] = Counter()  # by kind
        self.first: dict[str, str] = {}  # a whole reason of each kind, for messages
        self._added: list[dict[str, Any]] = []

    def add(self, file: str, row: int, item_id: str | None, kind: str, detail: str = "") -> None:
        """Record one reject: ``row`` counts from 1, ``kind`` is what is wrong, ``detail`` the value or the like."""
        reason = f"{kind}: {detail}" if detail else kind
        self.counts[kind] += 1
        self.first.setdefault(kind, f"{file}, row {row}: {reason}")
        self._added.append({"file": file, "row": int(row), "item_id": item_id, "reason": reason})
        if len(self._added) >= _FLUSH:
            self._take()

    def add_failed(self, file: str, rows: RowBatch, checks: RowChecks, item_column: str) -> None:
        """Record the rows of a batch that failed some checks, with the ids of their items."""
        failed = [(int(place), kind, column) for places, kind, column in checks.failed for place in places]
        for place, kind, column in sorted(failed, key=lambda one: one[0]):
            detail = "" if column is None else shown(rows.batch[column], place)
            self.add(file, int(rows.numbers[place]), rows.batch[item_column][place].as_py(), kind, detail)

    @property
    def total(self) -> int:
        """How many rejects there are."""
        return self.counts.total()

    @property
    def facts(self) -> dict[str, Any]:
        """The counts, as the facts of a manifest hold them."""
        return {"rejects": self.total, "rejects_by_kind": dict(self.counts.most_common())}

    def unusable(self, path: Path, rows: int, *, nothing: str, remedy: str, before: int = 0) -> DataError:
        """The error for a file of which no row is usable; ``before`` is how many rejects other files had."""
        if self.total == before:
            return DataError(f"{path} has no rows", nothing)
        kind, n = self.counts.most_common(1)[0]
        return DataError(f"{path}: none of its {rows:,} rows is usable; {n:,} × {kind} ({self.first[kind]})", remedy)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self._take()
        super().__exit__(kind, error, trace)

    def _take(self) -> None:
        if self._writer is not None and self._added:
            self.write(pa.RecordBatch.from_pylist(self._added, SCHEMA))
        self._added.clear()


def in_words(facts: dict[str, Any]) -> str:
    """How many rejects of each kind, by the facts of a manifest: the end of a sentence, empty where there are none."""
    if not facts["rejects"]:
        return ""
    kinds = ", ".join(f"{n:,} × {kind}" for kind, n in facts["rejects_by_kind"].items())
    return f"; {facts['rejects']:,} rejects ({kinds})"


def with_new_ids(
    rows: RowBatch,
    column: str,
    seen: dict[str, None],
    rejects: Rejects | None,
    file: str,
    kinds: tuple[str, str] = ("missing id", "duplicate id"),
    *,
    items: bool = True,
) -> RowBatch:
    """The rows with an id that no row before them had; ``seen`` grows.

    The others are rejected (None: nobody wants to know) as the first of ``kinds`` where they have no id, else as the
    second; ``items`` says whether the ids are those of items.
    """
    keep = np.ones(len(rows), bool)
    for place, found in enumerate(rows.batch[column].to_pylist()):
        blank = found is None or not found.strip()
        if not blank and found not in seen:
            seen[found] = None
            continue
        keep[place] = False
        if rejects is not None:
            item_id = found if items and not blank else None
            rejects.add(file, int(rows.numbers[place]), item_id, kinds[0] if blank else kinds[1])
    return rows.where(keep)


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
        twice = Counter(names).most_common(1)[0][0]
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


def within_limits(rows: RowBatch, file: str, rejects: Rejects | None) -> RowBatch:
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
