"""How the times of a column are written: what reading a log understands by itself, or the format to be told."""

from dataclasses import dataclass
from datetime import datetime
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.errors import DataError
from molar_retrieval.interactions.times import TimeParser

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
_DAYS: tuple[str, ...] = (
    "%d.%m.%y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%y/%m/%d",
    "%d-%m-%y",
    "%y-%m-%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
)
_DAYS += ("%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d")
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
    if _share(few, _DIGITS) >= MOSTLY:
        return _of_numbers(few)
    if _share(few, r"[0-9]") < MOSTLY or not 5 <= (pc.mean(pc.utf8_length(few)).as_py() or 0) <= 40:
        return None
    return _of_words(values, few)


def _of_numbers(few: pa.Array) -> TimeForm | None:
    for form, pattern in _COMPACT:
        if (share := _share(few, pattern)) >= MOSTLY:
            return TimeForm((form,), share, "%H" in form, False, False, few[0].as_py())
    numbers = np.asarray(few.filter(pc.match_substring_regex(few, _DIGITS)).cast(pa.float64()))
    for unit in (1, 1e3, 1e6, 1e9):
        share = float(((numbers >= _EARLIEST * unit) & (numbers <= _LATEST * unit)).mean())
        if share >= MOSTLY:
            return TimeForm((), share, True, True, False, few[0].as_py())
    return None


def _of_words(values: pa.Array, few: pa.Array) -> TimeForm | None:
    clock, zone = _share(few, _CLOCK) > 0.5, _share(few, _ZONE) > 0.5
    personal, example = _share(few, _PERSONAL) > 0.5, few[0].as_py()
    parser = TimeParser()
    parser.look_through(lambda: [values])
    try:
        share = float(parser.parse(few)[1].mean())
    except DataError:  # of day and month it cannot be told which comes first
        share = 0.0
    if share >= MOSTLY:
        return TimeForm((), share, clock, zone, personal, example)
    ways, share = _ways_of(values.slice(0, 20_000))
    return TimeForm(ways, share, clock, zone, True, example) if ways else None


def _ways_of(values: pa.Array) -> tuple[tuple[str, ...], float]:
    """The formats that read most values, none more than another, and the share that they read."""
    texts = values.to_pylist()
    shares = {}
    for form in map("".join, product((*_DAYS, *_MONTHS), _CLOCKS)):
        if _read(texts[:50], form) >= MOSTLY and (share := _read(texts, form)) >= MOSTLY:
            shares[form] = share
    best = max(shares.values(), default=0.0)
    return tuple(form for form, share in shares.items() if share == best), best


def _read(texts: list[str], form: str) -> float:
    read = 0
    for text in texts:
        try:
            datetime.strptime(text, form)
        except ValueError:
            continue
        read += 1
    return read / len(texts)


def _share(values: pa.Array, pattern: str) -> float:
    return float(np.asarray(pc.match_substring_regex(values, pattern)).mean())
