"""Times of a log, in whatever form, as microseconds since 1970 in UTC."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval import limits
from molar_retrieval.data.rows import Mask
from molar_retrieval.data.values import as_strings, is_string
from molar_retrieval.errors import DataError

Micros = npt.NDArray[np.int64]

EARLIEST = limits.EARLIEST * 1_000_000
"""The year 1990: no shop logged interactions before; a time before it is a default or a mistake."""
EARLY, LATE = "time is before 1990", "time is in the future"
AHEAD = limits.AHEAD * 1_000_000
"""How far a time may lie ahead of the clock: zones differ by less than a day."""
_PER_UNIT = {"d": 86_400_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}
_GUESS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))  # 1e11 s is the year 5138, 1e11 ms the year 1973
_LAST = 253_402_300_799 * 1_000_000  # the year 9999
_NUMBER = r"^[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = r"(?P<clock>[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,6})?)?)(?: ?Uhr)?"
_ZONE = r"(?: ?(?P<zone>Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}))?"
_CLOCK = rf"(?:,?[ T]+{_TIME}{_ZONE})?$"
_YEAR_FIRST = r"^(?P<year>[0-9]{4})[-/.](?P<month>[0-9]{1,2})[-/.](?P<day>[0-9]{1,2})" + _CLOCK
_JAPANESE = r"^(?P<year>[0-9]{4})年 ?(?P<month>[0-9]{1,2})月 ?(?P<day>[0-9]{1,2})日" + _CLOCK.replace("[ T]+", " *")
_DAY_FIRST = r"^(?P<day>[0-9]{1,2})\. ?(?P<month>[0-9]{1,2})\. ?(?P<year>[0-9]{4})" + _CLOCK
_YEAR_LAST = r"[0-9]{1,2})[/-](?P<year>[0-9]{4})" + _CLOCK
_ORDERS = {
    "day/month": r"^(?P<day>[0-9]{1,2})[/-](?P<month>" + _YEAR_LAST,
    "month/day": r"^(?P<month>[0-9]{1,2})[/-](?P<day>" + _YEAR_LAST,
}


def impossible(micros: Micros, now: float) -> dict[str, Mask]:
    """Which times no interaction can have, by what is wrong with them; ``now`` is in seconds."""
    return {EARLY: micros < EARLIEST, LATE: micros > int(now * 1e6) + AHEAD}


def written(micros: int) -> str:
    """A time for messages, in UTC: the day where it is midnight, else with the second."""
    try:
        when = datetime.fromtimestamp(micros // 1_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{micros // 1_000_000} s"
    return when.strftime("%Y-%m-%d" if micros % _PER_UNIT["d"] == 0 else "%Y-%m-%d %H:%M:%S")


class TimeParser:
    """Reads the times of one log, batch by batch; ``read_as`` names the format, None before the first one.

    Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970; which, the median of the first batch
    tells unless the unit is given. Strings are numbers, ISO 8601, dates as people write them, or of the given
    ``strptime`` format; a DataError if it is none. A time that names no zone is in ``zone``, by default UTC, and a date
    without a time is its midnight; of an hour that the clock has twice it is the first.

    31.12.2025 has its day first. Of 31/12/2025 and 31-12-2025 the whole column must tell whether the day or the month
    comes first: that of :meth:`look_through`, else the first batch with such times. If it does not, they are no times
    where most are written in another way, and else a DataError.
    """

    def __init__(self, unit: str = "auto", form: str | None = None, zone: str | None = None) -> None:
        self.read_as: str | None = None
        self._unit = None if unit == "auto" else unit
        self._form = form
        self._order: str | None = None  # empty: ambiguous, and such times are invalid
        self._column: Callable[[], Iterable[pa.Array]] | None = None
        self._zone = UTC if zone is None else _zone(zone)
        if form is not None:
            _check_format(form)

    def look_through(self, column: Callable[[], Iterable[pa.Array]]) -> None:
        """Where the whole column is to be had, in pieces; it is read only if the order of its dates must be found."""
        self._column = column

    def parse(self, array: pa.Array) -> tuple[Micros, Mask]:
        """Microseconds since 1970, 0 where there is no time, and which are times; a DataError if the type has none."""
        types, kind = pa.types, array.type
        if types.is_dictionary(kind):
            return self.parse(array.dictionary_decode())
        if types.is_null(kind):
            return np.zeros(len(array), np.int64), np.zeros(len(array), bool)
        if types.is_date(kind) or types.is_timestamp(kind):
            return self._from_arrow(array)
        if self._form is not None and (is_string(kind) or types.is_integer(kind)):
            self.read_as = form = self._form
            read = partial(_value_by_value, read=lambda text: datetime.strptime(text, form), zone=self._zone)
            return _over_distinct(as_strings(array), read)
        if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
            return self._from_numbers(array)
        if is_string(kind):
            return _over_distinct(pc.utf8_trim_whitespace(as_strings(array)), self._from_strings)
        raise DataError(f"the time column holds {kind}", "give seconds, ISO 8601 strings or timestamps")

    def _from_arrow(self, array: pa.Array) -> tuple[Micros, Mask]:
        self.read_as = str(array.type)
        days = pa.types.is_date32(array.type)
        unit = "d" if days else "ms" if pa.types.is_date64(array.type) else array.type.unit
        integers = (array.cast(pa.int32()) if days else array).cast(pa.int64())
        micros, valid = _in_micros(np.asarray(integers.fill_null(0)), np.asarray(pc.is_valid(array)), unit)
        local = pa.types.is_date(array.type) or array.type.tz is None
        return (_from_local(micros, valid, self._zone) if local else micros), valid

    def _from_numbers(self, array: pa.Array) -> tuple[Micros, Mask]:
        whole = pa.types.is_integer(array.type) and not pa.types.is_uint64(array.type)
        wide = array.cast(pa.int64() if whole else pa.float64(), safe=False)
        values = np.asarray(wide.fill_null(0))
        valid = np.asarray(pc.is_valid(wide)) & np.isfinite(values)
        if not valid.any():
            return np.zeros(len(array), np.int64), valid
        if self._unit is None:
            size = float(np.median(np.abs(values[valid].astype(np.float64))))
            self._unit = next((unit for below, unit in _GUESS if size < below), "ns")
        self.read_as = self._unit
        return _in_micros(values, valid, self._unit)

    def _from_strings(self, array: pa.Array) -> tuple[Micros, Mask]:
        numeric = _matches(array, _NUMBER)
        micros, valid = np.zeros(len(array), np.int64), np.zeros(len(array), bool)
        if numeric.any():
            micros[numeric], valid[numeric] = self._from_numbers(_as_numbers(array.filter(pa.array(numeric))))
        if not numeric.all():
            others = array.filter(pa.array(~numeric))
            micros[~numeric], valid[~numeric] = self._from_words(others)
        return micros, valid

    def _from_words(self, array: pa.Array) -> tuple[Micros, Mask]:
        found = _by_arrow(array, self._zone)
        if found is None:
            if self._order is None and _matches(array, _ORDERS["day/month"]).any():
                self._order = _order_of([array] if self._column is None else self._column())
            ways = [("ISO 8601", _YEAR_FIRST), ("day.month.year", _DAY_FIRST), ("年月日", _JAPANESE)]
            ways += [(f"{self._order}/year", _ORDERS[self._order])] if self._order else []
            for name, pattern in ways:
                dates = _matches(array, pattern)
                if dates.any():
                    array = pc.replace_with_mask(
                        array, pa.array(dates), _as_iso(array.filter(pa.array(dates)), pattern)
                    )
                    self.read_as = name
            found = _by_arrow(array, self._zone) or _value_by_value(array, datetime.fromisoformat, self._zone)
        if found[1].any() and self.read_as is None:
            self.read_as = "ISO 8601"
        return found


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        words = f"catalog.toml: interactions.time_zone = {name[:100]!r} is no known time zone"
        raise DataError(words, "write one such as Europe/Berlin or Asia/Tokyo") from error


def _check_format(form: str) -> None:
    try:
        datetime.strptime("", form)
    except (ValueError, IndexError, re.error) as error:
        if isinstance(error, ValueError) and "does not match" in str(error):
            return
        words = f"catalog.toml: interactions.time_format = {form[:100]!r} is no format of strptime: {error}"
        raise DataError(words, "write one such as %d/%m/%Y %H:%M") from error


def _in_micros(values: npt.NDArray[Any], valid: Mask, unit: str) -> tuple[Micros, Mask]:
    """Numbers of a unit as microseconds; what lies beyond the year 9999 is not valid."""
    factor = _PER_UNIT.get(unit, 1)
    limit = min(_LAST * 1000 if unit == "ns" else _LAST // factor, 2**63 - 1)
    valid = valid & (values <= limit) & (values >= -limit)
    values = np.where(valid, values, 0)
    micros = values // 1000 if unit == "ns" else values * factor
    return (micros if micros.dtype == np.int64 else np.rint(micros).astype(np.int64)), valid


def _as_numbers(array: pa.Array) -> pa.Array:
    bare = pc.utf8_ltrim(array, "+")
    try:
        return bare.cast(pa.int64())
    except pa.ArrowInvalid:
        return bare.cast(pa.float64())


def _by_arrow(array: pa.Array, local: tzinfo) -> tuple[Micros, Mask] | None:
    """Strings as Arrow reads ISO 8601, all with a zone or none; None where one of them is something else."""
    for zone in (None, "UTC"):
        try:
            found = array.cast(pa.timestamp("us", zone)).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
        micros, valid = np.asarray(found.fill_null(0)), np.asarray(pc.is_valid(found))
        return (micros if zone else _from_local(micros, valid, local)), valid
    return None


def _from_local(micros: Micros, valid: Mask, zone: tzinfo) -> Micros:
    """Times on the clock of a zone as those of UTC, 0 where there is none."""
    if zone is UTC:
        return micros
    clock = pa.array(micros).cast(pa.timestamp("us"))
    there = pc.assume_timezone(clock, str(zone), ambiguous="earliest", nonexistent="earliest")
    return np.where(valid, np.asarray(there.cast(pa.int64())), 0)


def _matches(array: pa.Array, pattern: str) -> Mask:
    return np.asarray(pc.fill_null(pc.match_substring_regex(array, pattern), False))


def _order_of(column: Iterable[pa.Array]) -> str:
    """Which of day and month comes first in 31/12/2025, by all such times of a column.

    A DataError if they are ambiguous; empty if they are less than half of the column.
    """
    possible = dict.fromkeys(_ORDERS, "")  # with a time that only this order can read
    example, rows, such = "", 0, 0
    for piece in column:
        array = pc.utf8_trim_whitespace(as_strings(piece)).drop_null()
        rows += len(array)
        array = array.filter(pa.array(_matches(array, _ORDERS["day/month"])))
        such += len(array)
        if not len(array):
            continue
        array = pc.unique(array)
        example = example or array[0].as_py()
        parts = pc.extract_regex(array, _ORDERS["day/month"])
        first, second = (np.asarray(pc.struct_field(parts, name).cast(pa.int64())) for name in ("day", "month"))
        for order, large, small in (("day/month", first, second), ("month/day", second, first)):
            telling = np.flatnonzero((large > 12) & (large <= 31) & (small >= 1) & (small <= 12))
            if len(telling) and not possible[order]:
                possible[order] = array[int(telling[0])].as_py()
    told = [time for time in possible.values() if time]
    if len(told) == 1:
        return next(order for order, time in possible.items() if time)
    if 2 * such < rows:
        return ""
    formats = " or ".join(f'time_format = "{form}"' for form in ("%d/%m/%Y", "%m/%d/%Y"))
    words = f"no time tells whether the day or the month comes first, as in {example!r}"
    if told:
        words = f"the times have the day first and the month first: {' and '.join(map(repr, told))}"
    raise DataError(words, f"say which in catalog.toml: [interactions] {formats}, with %H:%M where there is a time")


def _as_iso(array: pa.Array, pattern: str) -> pa.Array:
    """Dates of one way of writing in ISO 8601; whether there is such a day is not looked at."""
    parts = pc.extract_regex(array, pattern)
    part = {name: pc.struct_field(parts, name) for name in ("year", "month", "day", "clock", "zone")}
    two = {name: pc.utf8_lpad(part[name], 2, "0") for name in ("month", "day")}
    clock = pc.if_else(pc.equal(part["clock"], ""), "00:00", part["clock"])
    clock = pc.replace_substring_regex(pc.replace_substring(clock, ",", "."), "^([0-9]:)", r"0\1")
    zone = pc.replace_substring_regex(part["zone"], "^(UTC|GMT)$", "Z")
    zone = pc.replace_substring_regex(zone, "^([+-][0-9]{2})([0-9]{2})$", r"\1:\2")
    date = pc.binary_join_element_wise(part["year"], two["month"], two["day"], "-")
    return pc.binary_join_element_wise(date, "T", clock, zone, "")


def _value_by_value(array: pa.Array, read: Callable[[str], datetime], zone: tzinfo) -> tuple[Micros, Mask]:
    micros, valid = np.zeros(len(array), np.int64), np.zeros(len(array), bool)
    for i, text in enumerate(array.to_pylist()):
        with suppress(TypeError, ValueError, OverflowError):
            moment = read(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
            micros[i], valid[i] = (moment - _EPOCH) // timedelta(microseconds=1), True
    return micros, valid


def _over_distinct(array: pa.Array, parse: Callable[[pa.Array], tuple[Micros, Mask]]) -> tuple[Micros, Mask]:
    """Parse each distinct string once."""
    encoded = array.dictionary_encode()
    micros, valid = parse(encoded.dictionary)
    codes = np.asarray(encoded.indices.fill_null(-1))  # a missing one is after the last
    return np.append(micros, 0)[codes], np.append(valid, False)[codes]
