"""Reading CSV a piece at a time, every value first as it is written."""

import csv
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from molar_retrieval.catalog.bounds import LONGEST_NAME, MOST_COLUMNS, check_names
from molar_retrieval.catalog.numbers import BESIDE_COMMAS, EITHER, MIXED, WRITTEN, ambiguity, as_doubles, currencies
from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import Rows
from molar_retrieval.catalog.table_source import Kinds, TableSource
from molar_retrieval.errors import DataError

_BLOCK = 8 << 20
_LONGEST_HEADER = MOST_COLUMNS * LONGEST_NAME
_DELIMITERS = ",;\t|"
# Numbers of up to 18 digits; a leading zero (007) makes a code of it.
_PATTERNS = {
    pa.bool_(): r"^(?i:true|false)$",
    pa.int64(): r"^[+-]?(0|[1-9][0-9]{0,17})$",
    pa.float64(): r"^[+-]?((0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?|(?i:nan|inf|infinity))$",
}


class CsvSource(TableSource):
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
        for rows in self.batches(self._names, 0, as_written=self._names):
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

    def _read(self, kinds: Kinds, size: int, rejects: Rejects | None, as_written: Collection[str]) -> Iterator[Rows]:
        columns = list(kinds)
        skipped: list[int] = []
        good = 0
        try:
            for batch in self._open(columns, skipped, rejects):
                numbers = _row_numbers(good, len(batch), skipped)
                good += len(batch)
                strings = pa.RecordBatch.from_arrays([bytes_.view(pa.string()) for bytes_ in batch.columns], columns)
                rows = self._fitting(Rows(numbers, strings), rejects)
                found = zip(columns, rows.batch.columns, strict=True)
                arrays = [_typed(array, kinds[name], self._decimals.get(name)) for name, array in found]
                yield Rows(rows.numbers, pa.RecordBatch.from_arrays(arrays, columns))
        except UnicodeDecodeError as error:
            raise self._unreadable(error, "name its encoding in catalog.toml, or save it as UTF-8") from error
        except pa.ArrowException as error:
            if "straddling" in str(error):
                words = f"{self.path}: after row {good + len(skipped):,} comes one of more than {_BLOCK:,} bytes"
                raise DataError(words, "close the quote that it begins with, or shorten it") from error
            raise self._unreadable(error, "correct the file") from error

    def _open(self, columns: list[str], skipped: list[int], rejects: Rejects | None) -> Any:
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
