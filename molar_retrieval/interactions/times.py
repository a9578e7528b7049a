"""Times of a log, in whatever form, as microseconds since 1970 in UTC."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.rows import Mask
from molar_retrieval.catalog.values import as_written, is_string
from molar_retrieval.errors import DataError

Micros = npt.NDArray[np.int64]

_PER_UNIT = {"d": 86_400_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}
_GUESS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))  # 1e11 s is the year 5138, 1e11 ms the year 1973
_LAST = 253_402_300_799 * 1_000_000  # the year 9999
_NUMBER = r"^[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimeParser:
    """Reads the times of one log, batch by batch; ``read_as`` says for people how, None before the first one.

    Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970; which, the median of the first batch
    tells unless the unit is given. Strings are numbers, ISO 8601, or of the given ``strptime`` format; a DataError if
    it is none. A time without a zone is taken as UTC.
    """

    def __init__(self, unit: str = "auto", form: str | None = None) -> None:
        self.read_as: str | None = None
        self._unit = None if unit == "auto" else unit
        self._form = form
        if form is not None:
            _check_format(form)

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
            read = partial(_value_by_value, read=lambda text: datetime.strptime(text, form))
            return _over_distinct(as_written(array), read)
        if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
            return self._from_numbers(array)
        if is_string(kind):
            return _over_distinct(pc.utf8_trim_whitespace(as_written(array)), self._from_strings)
        raise DataError(f"the time column holds {kind}", "give seconds, ISO 8601 strings or timestamps")

    def _from_arrow(self, array: pa.Array) -> tuple[Micros, Mask]:
        self.read_as = str(array.type)
        days = pa.types.is_date32(array.type)
        unit = "d" if days else "ms" if pa.types.is_date64(array.type) else array.type.unit
        integers = (array.cast(pa.int32()) if days else array).cast(pa.int64())
        return _in_micros(np.asarray(integers.fill_null(0)), np.asarray(pc.is_valid(array)), unit)

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
        numeric = np.asarray(pc.fill_null(pc.match_substring_regex(array, _NUMBER), False))
        micros, valid = np.zeros(len(array), np.int64), np.zeros(len(array), bool)
        if numeric.any():
            micros[numeric], valid[numeric] = self._from_numbers(_as_numbers(array.filter(pa.array(numeric))))
        if not numeric.all():
            others = array.filter(pa.array(~numeric))
            micros[~numeric], valid[~numeric] = _from_iso(others)
            if valid[~numeric].any():
                self.read_as = "ISO 8601"
        return micros, valid


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


def _from_iso(array: pa.Array) -> tuple[Micros, Mask]:
    for zone in (None, "UTC"):
        try:
            micros = array.cast(pa.timestamp("us", zone)).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
        return np.asarray(micros.fill_null(0)), np.asarray(pc.is_valid(micros))
    return _value_by_value(array, datetime.fromisoformat)


def _value_by_value(array: pa.Array, read: Callable[[str], datetime]) -> tuple[Micros, Mask]:
    micros, valid = np.zeros(len(array), np.int64), np.zeros(len(array), bool)
    for i, text in enumerate(array.to_pylist()):
        try:
            moment = read(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            micros[i], valid[i] = (moment - _EPOCH) // timedelta(microseconds=1), True
        except (TypeError, ValueError, OverflowError):
            continue
    return micros, valid


def _over_distinct(array: pa.Array, parse: Callable[[pa.Array], tuple[Micros, Mask]]) -> tuple[Micros, Mask]:
    """Parse each distinct string once."""
    encoded = array.dictionary_encode()
    micros, valid = parse(encoded.dictionary)
    codes = np.asarray(encoded.indices.fill_null(-1))  # a missing one is after the last
    return np.append(micros, 0)[codes], np.append(valid, False)[codes]
