"""Reads the columns of an items file that say from when an item may be shown, however people write them."""

from collections.abc import Mapping, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.availability import ACTIVE, AVAILABLE_FROM, ROLES, STOCK, iso, understood
from molar_retrieval.catalog.names import well_known
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.catalog.values import as_written, is_number, is_string, payload_type
from molar_retrieval.errors import DataError
from molar_retrieval.interactions.times import TimeParser

_SAMPLE = 20_000


def columns_of(named: Mapping[str, str | None], source: TableSource, free: Sequence[str]) -> dict[str, str]:
    """The column that fills each role: the one that is named, else one of the role's name whose values mean that.

    Raises:
        DataError: If a named column is of a type that cannot say it.
    """
    found = {}
    for role in ROLES:
        column = named.get(role)
        if column is not None and not _holds(role, kind := source.schema.field(column).type):
            hint = "name another column in catalog.toml, or write it as docs/catalogue.md says"
            raise DataError(f"{source.path.name}: the {role} column {column!r} holds {kind}", hint)
        guessed = column or well_known([role], free)
        if guessed is not None and (column is not None or _means(role, guessed, source)):
            found[role] = guessed
    return found


class AvailabilityReader:
    """Reads the columns of one items file that say from when an item may be shown; ``roles`` has them by role.

    A time that names no zone is in ``zone``, by default UTC.
    """

    def __init__(self, roles: Mapping[str, str], source: TableSource, zone: str | None) -> None:
        self._roles, self._source = {column: role for role, column in roles.items()}, source
        self._times = TimeParser(zone=zone)
        if (column := roles.get(AVAILABLE_FROM)) is not None:
            written = [column] if source.untyped else []
            batches = partial(source.batches, [column], _SAMPLE, None, written)
            self._times.look_through(lambda: (rows.batch[column] for rows in batches()))

    def __contains__(self, column: object) -> bool:
        return column in self._roles

    def read(self, column: str, array: pa.Array) -> tuple[pa.Array, pa.Array]:
        """The values of a column as payload, and which were given but not understood; these are missing.

        Raises:
            DataError: If the dates can be read in two ways.
        """
        try:
            values = _read(self._roles[column], array, self._times)
        except DataError as error:
            words = f"{self._source.path.name}, column {column!r}: {error.message}"
            raise DataError(words, "write days as 2026-12-31") from error
        return values, pc.and_(pc.is_valid(as_written(array)), pc.is_null(values))


def type_of(role: str, kind: pa.DataType) -> pa.DataType:
    """The payload's type for a column of some type that fills a role."""
    if role != STOCK:
        return pa.bool_() if role == ACTIVE else pa.string()
    return payload_type(kind) if is_number(kind) else pa.float64()


def _holds(role: str, kind: pa.DataType) -> bool:
    if is_string(kind) or pa.types.is_null(kind):
        return True
    if role != AVAILABLE_FROM:
        return is_number(kind)
    times = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
    return bool(times or (is_number(kind) and not pa.types.is_boolean(kind)))


def _means(role: str, column: str, source: TableSource) -> bool:
    """Whether at least half of a column's values are what its name says: an *active* ingredient is another matter."""
    kind = source.schema.field(column).type
    if role == AVAILABLE_FROM or not is_string(kind):
        return _holds(role, kind)
    some = next(iter(source.batches([column], _SAMPLE)), None)
    if some is None:
        return False
    array = some.batch[column]
    told: int = len(array) - _read(role, array, TimeParser()).null_count
    return told > 0 and 2 * told >= int(len(array) - array.null_count)


def _read(role: str, array: pa.Array, times: TimeParser) -> pa.Array:
    """Values of a role as the payload has them, null where they are missing or not understood."""
    kind = type_of(role, array.type)
    array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    if role == AVAILABLE_FROM:
        micros, known = times.parse(array)
        return pa.array([iso(int(one)) if there else None for one, there in zip(micros, known, strict=True)], kind)
    if is_string(array.type):
        words = array.dictionary_encode()
        meanings = pa.array([understood(role, word) for word in words.dictionary.to_pylist()], kind)
        return meanings.take(words.indices)
    if role == STOCK:
        return array.cast(kind, safe=False)
    numbers = array.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(numbers), pc.not_equal(numbers, 0.0), pa.scalar(None, kind))
