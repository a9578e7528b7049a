"""Reads CSV, JSON lines and Parquet a piece at a time, each row with its number from 1."""

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.data.rows import (
    LONGEST_NAME,
    MOST_COLUMNS,
    Rejects,
    RowBatch,
    check_names,
    check_parquet,
    check_unpacked,
    largest_chunks,
    unpacked_bytes,
    within_limits,
)
from molar_retrieval.data.values import (
    BESIDE_COMMAS,
    EITHER,
    MIXED,
    STRING_LIST,
    WRITTEN,
    ambiguity,
    as_doubles,
    currencies,
    is_string,
)
from molar_retrieval.data.values import as_strings as written
from molar_retrieval.errors import DataError

Kinds = dict[str, pa.DataType]


class TableReader(ABC):
    """A file of rows; a DataError if it cannot be read at all."""

    form: str
    """What the format is called."""
    untyped: bool = False
    """Whether all values are words, so that reading them as written spares a pass to find out their types."""
    total: int | None = None
    variants: str | None = None
    """The column with the ids of an item's variants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.decimal: str | None = None
        """The decimal sign of numbers in text; None: found by column."""
        self.ambiguous_columns: dict[str, str] = {}
        """Columns of numbers that can be read in two ways, with the reason; they are words. Filled by the schema."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """The column names, without reading the whole file."""

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Names and types; a text file is read once to infer the types."""

    def batches(
        self, columns: Sequence[str], size: int, rejects: Rejects | None = None, as_strings: Collection[str] = ()
    ) -> Iterator[RowBatch]:
        """Read some columns, in this order, from beginning to end in bounded memory, ``size`` rows at once, roughly.

        ``rejects`` takes the rows that are not readable as rows, or are beyond the bounds. Columns ``as_strings`` are
        strings, exactly as they stand in a text file (``007`` stays ``007``). A damaged file is a DataError.
        """
        kinds = {name: pa.string() if name in as_strings else self.schema.field(name).type for name in columns}
        try:
            yield from self._read(kinds, size, rejects, as_strings)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def records(self, size: int, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row with its number, as an object by column name; nested ones where the format has them."""
        names = self.names
        for rows in self.batches(names, size, rejects, names if self.untyped else ()):
            yield from zip(rows.numbers.tolist(), rows.batch.to_pylist(), strict=True)

    @abstractmethod
    def _read(
        self, kinds: Kinds, size: int, rejects: Rejects | None, as_strings: Collection[str]
    ) -> Iterator[RowBatch]:
        """See :meth:`batches`; ``kinds`` has the wanted columns with their types."""

    def _unreadable(self, error: Exception, remedy: str = "write or copy the file again") -> DataError:
        return DataError(f"{self.path} is not a readable {self.form} file: {error}", remedy)


_BLOCK = 8 << 20
_LONGEST_HEADER = MOST_COLUMNS * LONGEST_NAME
_DELIMITERS = ",;\t|"
# Numbers of up to 18 digits; a leading zero (007) makes a code of it.
_PATTERNS = {
    pa.bool_(): r"^(?i:true|false)$",
    pa.int64(): r"^[+-]?(0|[1-9][0-9]{0,17})$",
    pa.float64(): r"^[+-]?((0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?|(?i:nan|inf|infinity))$",
}


class CsvReader(TableReader):
    """A CSV file with a header; of comma, semicolon, tab and bar the one that it has most of is the delimiter.

    Numbers are those of programs, or all of a column have decimal commas, thousands signs or one currency; what may be
    read in two ways stays as it is written. An empty field is a missing value. Rows with too many or too few fields
    are rejected. The size of a batch follows from the block that the parser reads.
    """

    form = "CSV"
    untyped = True

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        super().__init__(path)
        self._encoding = encoding
        self._names, self.delimiter = _read_header(path, encoding)
        self._decimals: dict[str, str] = {}  # of columns that are not written as programs write numbers

    @property
    def names(self) -> list[str]:
        """The column names."""
        return list(self._names)

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types: what fits all values of a column; the file is read once for it."""
        columns = {name: _WrittenColumn() for name in self._names}
        for rows in self.batches(self._names, 0, as_strings=self._names):
            for name, array in zip(self._names, rows.batch.columns, strict=True):
                columns[name].see(array)
        points = _PATTERNS if self.decimal != "," else {k: p for k, p in _PATTERNS.items() if k != pa.float64()}
        plain = {name: next((k for k in points if column.fits(k)), None) for name, column in columns.items()}
        comma = any(plain[name] is None and column.decimals == {","} for name, column in columns.items())
        for name, column in columns.items():
            decimals = column.decimals & {self.decimal or ".", self.decimal or ","}
            if plain[name] == pa.float64() and comma and "," in decimals and self.decimal is None:
                self.ambiguous_columns[name] = BESIDE_COMMAS
            elif plain[name] is None and decimals:
                reason = ambiguity(decimals, column.money, separated=column.separated)
                if reason is None:
                    self._decimals[name] = min(decimals, key=".,".index)
                else:
                    self.ambiguous_columns[name] = reason
            elif plain[name] is None and column.mixed:
                self.ambiguous_columns[name] = MIXED
        numbers = {name: pa.float64() for name in self._decimals} | dict.fromkeys(self.ambiguous_columns, pa.string())
        return pa.schema([(name, numbers.get(name) or plain[name] or pa.string()) for name in self._names])

    def _read(
        self, kinds: Kinds, size: int, rejects: Rejects | None, as_strings: Collection[str]
    ) -> Iterator[RowBatch]:
        columns = list(kinds)
        skipped: list[int] = []
        good = 0
        try:
            for batch in self._open(columns, skipped, rejects):
                numbers = _row_numbers(good, len(batch), skipped)
                good += len(batch)
                strings = pa.RecordBatch.from_arrays([bytes_.view(pa.string()) for bytes_ in batch.columns], columns)
                rows = within_limits(RowBatch(numbers, strings), self.path.name, rejects)
                found = zip(columns, rows.batch.columns, strict=True)
                arrays = [_typed(array, kinds[name], self._decimals.get(name)) for name, array in found]
                yield RowBatch(rows.numbers, pa.RecordBatch.from_arrays(arrays, columns))
        except UnicodeDecodeError as error:
            raise self._unreadable(error, "name its encoding in catalog.toml, or save it as UTF-8") from error
        except pa.ArrowException as error:
            if "straddling" in str(error):
                words = f"{self.path}: after row {good + len(skipped):,} comes one of more than {_BLOCK:,} bytes"
                raise DataError(words, "close the quote that it begins with, or shorten it") from error
            raise self._unreadable(error, "correct the file") from error

    def _open(self, columns: list[str], skipped: list[int], rejects: Rejects | None) -> Any:
        import pyarrow.csv as pa_csv  # takes long, and prepared catalogues are opened without it

        def skip(row: Any) -> str:
            number = row.number - 1  # the parser counts the header
            skipped.append(number)
            if rejects is not None:
                detail = f"{row.actual_columns} instead of {row.expected_columns}"
                rejects.add(self.path.name, number, None, "wrong number of fields", detail)
            return "skip"

        return pa_csv.open_csv(
            self.path,
            # Without threads the parser knows the number of a bad row.
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=_BLOCK, encoding=self._encoding),
            parse_options=pa_csv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=skip
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(self._names, pa.binary()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )


def _read_header(path: Path, encoding: str) -> tuple[list[str], str]:
    try:
        marked, errors = ("utf-8-sig", "surrogateescape") if encoding == "utf-8" else (encoding, "strict")
        with path.open(encoding=marked, errors=errors, newline="") as file:
            line = file.readline(_LONGEST_HEADER)
            if len(line) == _LONGEST_HEADER:
                words = f"{path} is not a readable CSV file: its first line has {_LONGEST_HEADER:,} characters and more"
                raise DataError(words, "begin it with a line of column names")
            file.seek(0)
            delimiter = max(_DELIMITERS, key=line.count)
            names = next(csv.reader(file, delimiter=delimiter), [])
        "".join(names).encode("utf-8")
    except (OSError, UnicodeError, csv.Error) as error:
        hint = "save it as UTF-8 with a header line, or say its encoding in catalog.toml: `molar init` finds it out"
        raise DataError(f"{path} is not a readable CSV file: {error}", hint) from error
    if not any(name.strip() for name in names):
        raise DataError(f"{path} is empty", "write a header line with the column names and a line for each row")
    check_names(path, names)
    return names, delimiter


def _row_numbers(good: int, n: int, skipped: Sequence[int]) -> npt.NDArray[np.int64]:
    """The numbers of the good rows ``good`` … ``good + n - 1`` (from 0), given the numbers of all skipped ones."""
    numbers = np.arange(good + 1, good + n + 1, dtype=np.int64)
    gaps = np.asarray(skipped, np.int64) - np.arange(len(skipped))  # good rows before each skipped one, plus 1
    return numbers + np.searchsorted(gaps, numbers, side="right")


class _WrittenColumn:
    """What the values of a column seen so far can be; nothing where there are none."""

    def __init__(self) -> None:
        self._possible: list[Any] = [*_PATTERNS, *WRITTEN]
        self._seen = self.separated = False
        self._numbers = True  # all values are some, be it with different decimal signs
        self.money: set[str] = set()

    def see(self, array: pa.Array) -> None:
        """Look at some more values."""
        if array.null_count == len(array) or (self._seen and not self._possible and not self._numbers):
            return
        self._seen = True
        patterns = {**_PATTERNS, **WRITTEN}
        matched = {k: pc.match_substring_regex(array, patterns[k]) for k in self._possible}
        self._possible = [k for k, fits in matched.items() if pc.all(fits, min_count=0).as_py()]
        if self.decimals:
            self.separated |= bool(pc.any(pc.match_substring_regex(array, "[.,]")).as_py())
            self.money |= currencies(array)
        elif self._numbers:
            self._numbers = bool(pc.all(pc.match_substring_regex(array, EITHER), min_count=0).as_py())

    def fits(self, kind: pa.DataType) -> bool:
        """Whether all values are of this kind."""
        return self._seen and kind in self._possible

    @property
    def mixed(self) -> bool:
        """Whether all values are numbers, but with different decimal signs."""
        return self._seen and self._numbers and not self.decimals

    @property
    def decimals(self) -> set[str]:
        """Signs that all values may have before their decimals."""
        return {sign for sign in WRITTEN if self._seen and sign in self._possible}


def _typed(array: pa.Array, kind: pa.DataType, decimal: str | None) -> pa.Array:
    if kind == pa.string():
        return array
    if decimal is not None:
        return as_doubles(array, decimal)
    if kind == pa.bool_():
        return pc.equal(pc.utf8_lower(array), "true")
    return pc.utf8_ltrim(array, "+").cast(kind)


_PEEK = 1000
_CHUNK = 4096
_LONGEST_LINE = 8 << 20
_MOST_ROWS = 131_072  # as Python objects they take far more memory than as a batch
_SIMPLE = (bool, float, str, type(None))
_OBJECT = pa.struct([])


class JsonLinesReader(TableReader):
    """A file with one JSON object a line, others are rejected; a missing key is a missing value."""

    form = "JSON lines"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with path.open("rb") as file:
                start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}", "check the file and its permissions") from error
        if start.startswith(b"["):
            raise DataError(f"{path} is one JSON array, not JSON lines", "write one object a line, without brackets")

    @property
    def names(self) -> list[str]:
        """The keys of the first 1,000 rows."""
        found: dict[str, None] = {}
        for _, row in islice(self._rows(None), _PEEK):
            found |= dict.fromkeys(row)
            check_names(self.path, found)
        return list(found)

    @cached_property
    def schema(self) -> pa.Schema:
        """Keys and types: what fits all values of a key; the file is read once for it."""
        kinds: dict[str, set[str]] = {}
        for _, row in self._rows(None):
            before = len(kinds)
            for key, value in row.items():
                kinds.setdefault(key, set()).add(_kind(value))
            if len(kinds) > before:
                check_names(self.path, kinds)
        return pa.schema([(key, _unified(found)) for key, found in kinds.items()])

    def _read(
        self, kinds: Kinds, size: int, rejects: Rejects | None, as_strings: Collection[str]
    ) -> Iterator[RowBatch]:
        rows = self._rows(rejects)
        while chunk := list(islice(rows, min(size, _MOST_ROWS))):
            arrays = [_array([row.get(name) for _, row in chunk], kind) for name, kind in kinds.items()]
            numbers = np.array([number for number, _ in chunk], np.int64)
            batch = pa.RecordBatch.from_arrays(arrays, list(kinds))
            yield within_limits(RowBatch(numbers, batch), self.path.name, rejects)

    def records(self, size: int, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row with its number, as it is written: objects within objects as well."""
        return self._rows(rejects)

    def _rows(self, rejects: Rejects | None) -> Iterator[tuple[int, dict[str, Any]]]:
        with self.path.open("rb") as file:
            yield from objects(file, self.path.name, rejects)


def objects(file: BinaryIO, name: str, rejects: Rejects | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of an open file or a pipe of JSON lines with their row numbers; ``name`` is what rejects call it."""
    first = 1
    while lines := _lines(file):
        for number, row in enumerate(map(_parse, lines), first):
            if isinstance(row, dict):
                yield number, row
            elif row and rejects is not None:
                rejects.add(name, number, None, row)
        first += len(lines)


def _lines(file: BinaryIO) -> list[bytes]:
    """The next lines, some megabytes at most; a line that is too long is cut off after the limit."""
    lines: list[bytes] = []
    size = 0
    while len(lines) < _CHUNK and size < _LONGEST_LINE and (line := file.readline(_LONGEST_LINE + 1)):
        lines.append(line)
        size += len(line)
        if len(line) > _LONGEST_LINE:
            while not line.endswith(b"\n") and (line := file.readline(_LONGEST_LINE)):
                pass
    return lines


def _parse(line: bytes) -> dict[str, Any] | str:
    """The object of a line, or what is wrong with it; empty for a blank line."""
    if len(line) > _LONGEST_LINE:
        return "line too long"
    try:
        row = json.loads(line.decode("utf-8-sig"))
        if b"\\ud" in line or b"\\uD" in line:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        return "not UTF-8"
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    except (ValueError, RecursionError):
        row = None
    if isinstance(row, dict):
        return row
    return "not a JSON object" if line.strip() else ""


def _kind(value: Any) -> str:
    if isinstance(value, _SIMPLE):
        return type(value).__name__
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "str"
    flat = isinstance(value, list) and not any(isinstance(element, list | dict) for element in value)
    return "list" if flat else "object"


def _unified(kinds: set[str]) -> pa.DataType:
    """The type that all values of a key fit in."""
    kinds = kinds - {"NoneType"}
    if not kinds:
        return pa.null()
    for several, kind in (({"object"}, _OBJECT), ({"list"}, STRING_LIST)):
        if kinds & several:
            return kind
    only = (({"bool"}, pa.bool_()), ({"int"}, pa.int64()), ({"int", "float"}, pa.float64()))
    return next((kind for several, kind in only if kinds <= several), pa.string())


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == _OBJECT:
        return pa.nulls(len(values), pa.null())
    if kind == pa.string():
        values = [_written(value) for value in values]
    elif kind == pa.float64():
        values = [None if value is None else float(value) for value in values]
    elif kind == STRING_LIST:
        values = [None if v is None else [_written(e) for e in (v if isinstance(v, list) else [v])] for v in values]
    return pa.array(values, kind)


def _written(value: Any) -> str | None:
    """A single value as text, 7 rather than 7.0; None for lists and objects."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if value is None or isinstance(value, list | dict) or value != value:
        return None
    return json.dumps(value)


_BUFFER = 1 << 20
_UNPACKED_AT_ONCE = 64 << 20
_PACKED = 16 << 20  # most bytes of a column in a row group of which a dictionary, perhaps of all strings, is kept


class ParquetReader(TableReader):
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

    def _read(
        self, kinds: Kinds, size: int, rejects: Rejects | None, as_strings: Collection[str]
    ) -> Iterator[RowBatch]:
        start, done = 1, 0
        # Repeated strings come once each, and are unpacked when it is known to what.
        packed = [name for name in kinds if name in self._packed]
        with pq.ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False, read_dictionary=packed) as file:
            for batch in file.iter_batches(size, columns=list(kinds), use_threads=False):
                numbers = np.arange(start, start + len(batch), dtype=np.int64)
                start += len(batch)
                plain = [field.with_type(_plain(field.type)) for field in batch.schema]
                rows = within_limits(RowBatch(numbers, batch.cast(pa.schema(plain))), self.path.name, rejects)
                own = sum(map(unpacked_bytes, rows.batch.columns))
                done += own
                check_unpacked(self.path, done)
                for piece in _pieces(rows, -(-own // _UNPACKED_AT_ONCE)):
                    arrays = [self._unpacked(piece.batch[name], name, as_strings) for name in kinds]
                    yield RowBatch(piece.numbers, pa.RecordBatch.from_arrays(arrays, list(kinds)))

    def _unpacked(self, array: pa.Array, name: str, as_strings: Collection[str]) -> pa.Array:
        kind = self._schema.field(name).type
        if pa.types.is_dictionary(array.type) and not pa.types.is_dictionary(kind):
            array = array.cast(kind)
        return written(array) if name in as_strings else array


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type under which values are read: not all functions of Arrow take views."""
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    return pa.string() if pa.types.is_string_view(kind) else kind


def _pieces(rows: RowBatch, count: int) -> Iterator[RowBatch]:
    """The rows in about so many pieces."""
    height = max(1, len(rows.numbers) // max(1, count))
    for begin in range(0, len(rows.numbers), height):
        yield RowBatch(rows.numbers[begin : begin + height], rows.batch.slice(begin, height))
