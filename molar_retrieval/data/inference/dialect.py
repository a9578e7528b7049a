"""The first rows of a table, and how it writes them: in which encoding, and its times."""

import codecs
import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data.readers import CsvReader, TableReader
from molar_retrieval.data.rows import Rejects
from molar_retrieval.data.schema import open_source, reader_of
from molar_retrieval.data.times import TimeParser
from molar_retrieval.data.values import WRITTEN, is_list, is_word
from molar_retrieval.errors import DataError

_CHUNK = 1 << 22
_SAMPLE = 1 << 23  # bytes around the first one that is not UTF-8 by which encodings are told apart
_ENOUGH = 0.95  # share of the characters beyond ASCII that must be of the scripts of an encoding
_TYPOGRAPHY = set("€‚„…‘’“”•–—™©®°´¨·«»¿¡§£¥±²³µ¼½¾×÷ªº\u00a0")
_SCRIPTS = {
    "euc_jp": ("HIRAGANA", "KATAKANA", "CJK", "FULLWIDTH", "IDEOGRAPHIC"),
    "cp932": ("HIRAGANA", "KATAKANA", "CJK", "FULLWIDTH", "IDEOGRAPHIC", "HALFWIDTH"),
    "cp1252": ("LATIN",),
    "cp1250": ("LATIN",),
    "cp1251": ("CYRILLIC",),
}
"""Encodings that are tried, with the scripts that they are for; the bytes of one are rarely those of one before it."""
_ODD: dict[tuple[str, ...], re.Pattern[str]] = {
    ("LATIN",): re.compile(r"[^\W\d_][¹²³§¿¡¼½¾£¥¤©®±][^\W\d_]|[^\x00-\x7f\W\d_]{5}"),
    ("CYRILLIC",): re.compile(r"[A-Za-z][Ѐ-ӿ]|[Ѐ-ӿ][A-Za-z]"),
}
"""What words hardly have: in Latin a sign within or five letters beyond ASCII in a row, in Cyrillic both alphabets."""

_WITHIN, _APART = re.compile(r"[A-Za-z][^\x00-\x7f](?![^\x00-\x7f])|(?<![^\x00-\x7f])[^\x00-\x7f][A-Za-z]"), 0.7
"""A character beyond ASCII within a word, as an umlaut, and how many must not be where a text has kanji and no kana."""


def encoding_of(path: Path) -> str:
    """The encoding of a text file, as Python calls it; a DataError where it is none of those known."""
    try:
        with path.open("rb") as file:
            if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                return "utf-16"
            file.seek(0)
            decoder = codecs.getincrementaldecoder("utf-8")()
            before = b""
            while chunk := file.read(_CHUNK):
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    return _guessed(path, before + chunk + file.read(_SAMPLE - _CHUNK))
                before = chunk
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", "check the file and its permissions") from error
    return "utf-8"


def _guessed(path: Path, sample: bytes) -> str:
    sample = sample[: sample.rfind(b"\n") + 1] or sample
    for encoding, scripts in _SCRIPTS.items():
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        foreign = [(c, unicodedata.name(c, "")) for c in text if ord(c) > 127]
        least = _ENOUGH * len(foreign)
        if scripts[0] == "HIRAGANA":
            fits = sum(name.startswith(scripts) for _, name in foreign) >= least
            apart = len(foreign) - len(_WITHIN.findall(text)) >= _APART * len(foreign)
            fits &= apart or any(name.startswith(scripts[:2]) for _, name in foreign)
        else:
            fits = sum(name.startswith(scripts) if c.isalpha() else c in _TYPOGRAPHY for c, name in foreign) >= least
            fits &= len(_ODD[scripts].findall(text)) <= (1 - _ENOUGH) * len(foreign)
        if fits:
            return encoding
    raise DataError(f"{path} is neither UTF-8 nor {', '.join(_SCRIPTS)}", "save it as UTF-8, or as Parquet")


MOSTLY = 0.8
"""Share of the different values that must be times."""
_TIMES = 2_000
_EARLIEST, _LATEST = 631_152_000, 4_102_444_800  # seconds: the years 1990 and 2100
_DIGITS = r"^[0-9]+(\.[0-9]*)?$"
_COMPACT = (
    ("%Y%m%d", r"^(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])$"),
    ("%Y%m%d%H%M", r"^(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9]$"),
    ("%Y%m%d%H%M%S", r"^(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])([0-5][0-9]){2}$"),
)
_DAYS = (
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%y/%m/%d", "%d-%m-%y", "%y-%m-%d"),
    *("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d"),
)
_MONTHS = ("%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%d-%b-%y", "%b %d, %Y", "%b %d %Y", "%d %B %Y", "%B %d, %Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S", ":%H:%M:%S", ", %I:%M %p")
_CLOCK, _ZONE = r"[0-9]:[0-9]{2}|時", r"([0-9]:?[0-9]{2}|[0-9])\s?(Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})$"
_PERSONAL = r"^[0-9]{1,2}\. ?[0-9]{1,2}\.|年|^[0-9]{1,2}[/-][0-9]{1,2}[/-]|^[0-9]{4}/"


@dataclass(frozen=True)
class TimeForm:
    """How times are written.

    Attributes:
        formats: ``strptime`` formats that reading has to be told; none: it understands them by itself; several: they
            do not tell which.
        share: Of the different values that are times.
        clock: Whether there is a time of day.
        zone: Whether a zone is named, or follows from numbers since 1970.
        personal: Whether they are written as people do, and not as programs do.
        example: One of them.
    """

    formats: tuple[str, ...]
    share: float
    clock: bool
    zone: bool
    personal: bool
    example: str


def form_of(values: pa.Array) -> TimeForm | None:
    """How the different values of a column are written as times; None where they are none."""
    values = pc.utf8_trim_whitespace(values)
    values = values.filter(pc.not_equal(values, ""))
    if not len(values):
        return None
    few = values.take(pa.array(np.linspace(0, len(values) - 1, min(len(values), _TIMES)).astype(np.int64)))
    example = few[0].as_py()
    if _share(few, _DIGITS) >= MOSTLY:
        for form, pattern in _COMPACT:
            if (share := _share(few, pattern)) >= MOSTLY:
                return TimeForm((form,), share, "%H" in form, False, False, example)
        numbers = np.asarray(few.filter(pc.match_substring_regex(few, _DIGITS)).cast(pa.float64()))
        units = (1, 1e3, 1e6, 1e9)
        shares = [float(((numbers >= _EARLIEST * unit) & (numbers <= _LATEST * unit)).mean()) for unit in units]
        return next((TimeForm((), share, True, True, False, example) for share in shares if share >= MOSTLY), None)
    if _share(few, r"[0-9]") < MOSTLY or not 5 <= (pc.mean(pc.utf8_length(few)).as_py() or 0) <= 40:
        return None
    clock, zone, personal = (_share(few, pattern) > 0.5 for pattern in (_CLOCK, _ZONE, _PERSONAL))
    parser = TimeParser()
    parser.look_through(lambda: [values])
    try:
        share = float(parser.parse(few)[1].mean())
    except DataError:  # of day and month it cannot be told which comes first
        share = 0.0
    if share >= MOSTLY:
        return TimeForm((), share, clock, zone, personal, example)
    texts = values.slice(0, 20_000).to_pylist()
    forms = map("".join, product((*_DAYS, *_MONTHS), _CLOCKS))
    read = {form: _read(texts, form) for form in forms if _read(texts[:50], form) >= MOSTLY}
    share = max(read.values(), default=0.0)
    ways = tuple(form for form, one in read.items() if one == share)
    return TimeForm(ways, share, clock, zone, True, example) if share >= MOSTLY else None


def _read(texts: list[str], form: str) -> float:
    """Share of the texts that a ``strptime`` format reads."""
    read = 0
    for text in texts:
        with suppress(ValueError):
            datetime.strptime(text, form)
            read += 1
    return read / len(texts)


def _share(values: pa.Array, pattern: str) -> float:
    """Share of the values that fit a pattern (RE2)."""
    return float(np.asarray(pc.match_substring_regex(values, pattern)).mean()) if len(values) else 0.0


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
        return _share(self.distinct, pattern)

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
    source: TableReader
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
        return self.source.delimiter if isinstance(self.source, CsvReader) else None


def sampled(path: Path, most: int = ROWS) -> SampledTable:
    """Read the first rows of a table; a DataError if it cannot be read, is empty, or has no line of column names."""
    if not path.is_file():
        raise DataError(f"there is no file {path}", "name your tables: `molar init orders.csv products.csv`")
    encoding = encoding_of(path) if reader_of(path) is CsvReader else "utf-8"
    source = open_source(path, encoding)
    names = source.names
    # A first line that is a row, or a title above the table.
    written = pa.array([name.strip() for name in names], pa.string())
    if 2 * np.asarray(pc.match_substring_regex(written, f"{_NUMBER}|{_DATE}|{_PHOTO}|^$")).sum() > len(names):
        listed = ", ".join(map(repr, names[:4]))
        error = f"the first line of {path} has no column names, but {listed}"
        raise DataError(error, "begin the file with a line of column names, one for each column")
    if names[0].lower().startswith("sep="):
        raise DataError(f"{path} begins with {names[0]!r}, a line for spreadsheets", "delete that line")
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
