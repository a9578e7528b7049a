"""The first rows of somebody's table, and what can be seen of each column in them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.csv_source import CsvSource
from molar_retrieval.catalog.numbers import WRITTEN
from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import open_source, reader_of
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.catalog.values import is_list, is_word
from molar_retrieval.errors import DataError
from molar_retrieval.proposal.encodings import encoding_of
from molar_retrieval.proposal.moments import TimeForm, form_of

ROWS = 200_000
"""Rows of a file that are looked at."""
_BATCH = 65_536
_NUMBER = r"^[+-]?[0-9]+([.,][0-9]+)?$"
_DATE = r"^[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}|^[0-9]{8,}$"
_PHOTO = r"(?i)\.(jpe?g|png|webp|avif|gif|bmp|tiff?)([?#].*)?$"
_ADDRESS = r"(?i)^(https?:)?//"
_SEPARATED = r"^[^|]*[^|\s][|]\s*[^|\s]"


@dataclass(frozen=True)
class SampledColumn:
    """A column's values as they are written; null where a field is empty. ``listed``: values are lists or objects."""

    name: str
    values: pa.Array
    listed: bool = False

    @cached_property
    def filled(self) -> int:
        """Rows with a value."""
        return len(self.values) - int(self.values.null_count)

    @cached_property
    def distinct(self) -> pa.Array:
        """The different values."""
        return pc.unique(self.values.drop_null())

    @cached_property
    def unique(self) -> float:
        """Share of the filled rows that have a value for the first time; 0 where nothing is filled."""
        return len(self.distinct) / self.filled if self.filled else 0.0

    @cached_property
    def length(self) -> float:
        """Mean characters of the different values."""
        return float(pc.mean(pc.utf8_length(self.distinct)).as_py() or 0.0)

    @cached_property
    def times(self) -> TimeForm | None:
        """How its times are written; None where it has none."""
        return None if self.listed else form_of(self.distinct)

    def share(self, pattern: str) -> float:
        """Share of the different values that fit a pattern (RE2)."""
        if not len(self.distinct):
            return 0.0
        return float(np.asarray(pc.match_substring_regex(self.distinct, pattern)).mean())

    @cached_property
    def numbers(self) -> float:
        """Share of the different values that are numbers, as programs or people write them."""
        return max(self.share(pattern) for pattern in (_NUMBER, *WRITTEN.values()))

    @cached_property
    def photos(self) -> float:
        """Share of the different values that name an image file."""
        return self.share(_PHOTO)

    @cached_property
    def addresses(self) -> float:
        """Share of the different values that are web addresses."""
        return self.share(_ADDRESS)

    @cached_property
    def separated(self) -> float:
        """Share of the different values that are several, with a bar between them."""
        return self.share(_SEPARATED)

    @cached_property
    def words(self) -> float:
        """Share of the different values with a letter that are no photos, addresses or times."""
        letters = self.share(r"\p{L}")
        return 0.0 if self.times is not None else max(0.0, letters - max(self.photos, self.addresses))

    def lowest(self) -> float | None:
        """The least of the numbers of a column of plain ones; None where there is another value."""
        try:
            return float(pc.min(self.distinct.cast(pa.float64())).as_py())
        except (pa.ArrowInvalid, TypeError):
            return None


@dataclass(frozen=True)
class SampledTable:
    """The first rows of a file; ``whole``: it has no others, and ``rows`` are all but the ``rejects``."""

    path: Path
    encoding: str
    source: TableSource
    rows: int
    whole: bool
    columns: tuple[SampledColumn, ...]
    rejects: Rejects

    def __getitem__(self, name: str) -> SampledColumn:
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    @property
    def delimiter(self) -> str | None:
        """What separates the columns of a CSV file."""
        return self.source.delimiter if isinstance(self.source, CsvSource) else None


def sampled(path: Path, most: int = ROWS) -> SampledTable:
    """Read the first rows of a table; a DataError if it cannot be read, is empty, or has no line of column names."""
    if not path.is_file():
        raise DataError(f"there is no file {path}", "name your tables: `molar init orders.csv products.csv`")
    encoding = encoding_of(path) if reader_of(path) is CsvSource else "utf-8"
    source = open_source(path, encoding)
    names = source.names
    _check_header(path, names)
    words = set(names)
    if not source.untyped:
        kinds = {field.name: field.type for field in source.schema}
        words = {name for name in names if is_word(kinds[name]) or pa.types.is_null(kinds[name])}
        names = [name for name in names if name in words or is_list(kinds[name])]
    parts: dict[str, list[pa.Array]] = {name: [] for name in names}
    rows, rejects = 0, Rejects(Path())
    for read in source.batches(names, _BATCH, rejects, words):
        for name, array in zip(names, read.batch.columns, strict=True):
            parts[name].append(array if name in words else pa.nulls(len(array), pa.string()))
        rows += len(read)
        if rows >= most:
            break
    if not rows:
        raise DataError(f"{path} has no rows that can be read", "put at least one row below the column names")
    columns = tuple(
        SampledColumn(name, pa.chunked_array(arrays).cast(pa.string()).combine_chunks(), name not in words)
        for name, arrays in parts.items()
    )
    return SampledTable(path, encoding, source, rows, rows < most, columns, rejects)


def _check_header(path: Path, names: list[str]) -> None:
    """Refuse a file whose first line is a row, or a title above the table."""
    written = pa.array([name.strip() for name in names], pa.string())
    no_names = np.asarray(pc.match_substring_regex(written, f"{_NUMBER}|{_DATE}|{_PHOTO}|^$"))
    if 2 * no_names.sum() > len(names):
        words = f"the first line of {path} has no column names, but {', '.join(map(repr, names[:4]))}"
        raise DataError(words, "begin the file with a line of column names, one for each column")
    if names[0].lower().startswith("sep="):
        raise DataError(f"{path} begins with {names[0]!r}, a line for spreadsheets", "delete that line")
