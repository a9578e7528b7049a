"""Reads an interaction log: its columns, the status of its orders, and every row, which is used or rejected."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data import column_names
from molar_retrieval.data.event_parsing import EVENT_TYPES, event_type
from molar_retrieval.data.interactions import RawInteractions
from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.rows import Mask, Rejects, RowBatch, RowChecks
from molar_retrieval.data.schema import InteractionSettings, UserSettings, columns_by_role
from molar_retrieval.data.times import EARLIEST, TimeParser, impossible, written
from molar_retrieval.data.values import (
    WRITTEN,
    as_doubles,
    as_strings,
    doubles,
    is_number,
    is_string,
    is_word,
)
from molar_retrieval.data.variants import present_values
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.suppression import NEVER, NOBODY, SuppressionList
from molar_retrieval.progress import Progress


@dataclass(frozen=True)
class InteractionColumns:
    """Columns of the interactions file by meaning; None where the log has no such thing."""

    user_id: str
    item_id: str
    timestamp: str | None = None
    position: str | None = None
    weight: str | None = None
    event: str | None = None
    order_id: str | None = None
    status: str | None = None
    cancelled_at: str | None = None


KNOWN_COLUMNS: dict[str, tuple[str, ...]] = {
    "user_id": column_names.USER_ID,
    "item_id": column_names.LOG_ITEM_ID,
    "timestamp": column_names.TIMESTAMP,
    "position": column_names.POSITION,
    "weight": column_names.WEIGHT,
    "event": column_names.EVENT,
    "order_id": (),
    "status": (),
    "cancelled_at": (),
}
"""Well-known names of the columns of a log, by role; without any, a column has the role only where it is named."""


def log_columns(settings: InteractionSettings, source: TableReader, item_id: str) -> InteractionColumns:
    """Resolve the columns of a log, where ``item_id`` may name the items; a DataError if one is missing or unfit."""
    known = {**KNOWN_COLUMNS, "item_id": (*KNOWN_COLUMNS["item_id"], item_id)}
    found = columns_by_role(settings, known, source, "interactions", ["user_id", "item_id"])
    for role, name in found.items():
        _check_type(role, name, source)
    return InteractionColumns(**found)


def user_column(settings: UserSettings, source: TableReader) -> str:
    """The column with the ids of a users file; a DataError if there is none."""
    found = columns_by_role(settings, {"user_id": (*column_names.USER_ID, "id")}, source, "users", ["user_id"])
    _check_type("user_id", found["user_id"], source)
    return found["user_id"]


def _check_type(role: str, column: str, source: TableReader) -> None:
    """Refuse a column by its type before anything is read; text files hold words, which are looked at one by one."""
    if source.untyped:
        return
    kind = source.schema.field(column).type
    bare = kind.value_type if pa.types.is_dictionary(kind) else kind
    fits, what = is_word(kind), "words or numbers, one a row"
    if role in ("timestamp", "position", "weight"):
        fits, what = is_number(kind) or is_string(kind), "numbers"
    if role == "timestamp":
        dated = pa.types.is_date(bare) or pa.types.is_timestamp(bare)
        fits = dated or (fits and not pa.types.is_boolean(bare))
        what = "seconds, ISO 8601 strings or timestamps"
    if not fits and not pa.types.is_null(kind):
        words = f"{source.path.name}: the {role} column {column!r} holds {kind}"
        raise DataError(words, f'write {what}, or name another column in catalog.toml: [interactions] {role} = "…"')


class OrderStatus:
    """Fills down, and leaves out what is no purchase, as ``[interactions]`` says it of a file.

    Args:
        asked: Which values of the status say that a row is no purchase.
        columns: The columns by role, of which ``order_id``, ``status`` and ``cancelled_at`` may be missing.
    """

    def __init__(self, asked: InteractionSettings, columns: Mapping[str, str | None]) -> None:
        self.excluded: Counter[str] = Counter()  # rows that are no purchases, by status
        self._order, self._status, self._cancelled = map(columns.get, ("order_id", "status", "cancelled_at"))
        names = [columns.get(role) for role in ("user_id", "timestamp", "status", "cancelled_at")]
        self._down = [name for name in names if name is not None]
        self._values = pa.array([_folded(value) for value in asked.exclude_status], pa.string())

    def filled(self, read: Iterator[RowBatch]) -> Iterator[RowBatch]:
        """Rows in which user, time, status and cancellation are there if a row before has them of the same order."""
        if self._order is None:
            yield from read
            return
        before: pa.RecordBatch | None = None
        for rows in filter(len, read):
            batch = rows.batch if before is None else pa.concat_batches([before, rows.batch])
            orders, place = as_strings(batch[self._order]), np.arange(len(batch))
            codes = np.asarray(orders.dictionary_encode().indices.fill_null(-1))
            new = ~present_values(orders) | np.append(True, codes[1:] != codes[:-1])
            first = np.maximum.accumulate(np.where(new, place, 0))
            filled = {}
            for name in self._down:
                last = np.maximum.accumulate(np.where(present_values(batch[name]), place, -1))
                filled[name] = batch[name].take(pa.array(np.where(last >= first, last, place)))
            whole = RowBatch(place, batch).with_columns(filled).batch
            before = whole.slice(len(whole) - 1)
            yield RowBatch(rows.numbers, whole.slice(len(whole) - len(rows)))

    def purchases(self, rows: RowBatch) -> RowBatch:
        """The rows that are purchases; the others are counted."""
        keep = np.ones(len(rows), bool)
        if self._cancelled is not None:
            keep = ~present_values(rows.batch[self._cancelled])
            if not keep.all():
                self.excluded[self._cancelled] += int((~keep).sum())
        if self._status is not None:
            status = pc.utf8_trim_whitespace(as_strings(rows.batch[self._status])).fill_null("").dictionary_encode()
            names = status.dictionary.to_pylist()
            known = pa.array(list(map(_folded, names)), pa.string())
            codes = np.asarray(status.indices)
            out = np.asarray(pc.is_in(known, self._values))[codes] if names else np.zeros(0, bool)
            for code, n in zip(*np.unique(codes[keep & out], return_counts=True), strict=True):
                self.excluded[names[code]] += int(n)
            keep &= ~out
        return rows.where(keep)


def excluded_in_words(excluded: dict[str, int]) -> str:
    """How many rows are no purchases, by status; empty where there are none."""
    if not excluded:
        return ""
    return f"{sum(excluded.values()):,} rows excluded ({', '.join(f'{n:,} × {one}' for one, n in excluded.items())})"


def _folded(status: str) -> str:
    return " ".join(status.split()).casefold()


BATCH = 262_144
LEAST_WEIGHT, MOST_WEIGHT = 1e-9, 1e9  # factors of 32 bits hold what is between them, and sums of it
NOT_POSITIVE = "weight is not a positive number"
WEIGHT_OUTSIDE = "weight is not between 1e-9 and 1e9"


def suppressed_rows(
    batch: pa.RecordBatch, user_id: str, timestamp: str | None, times: TimeParser, suppressed: SuppressionList
) -> Mask:
    """Which rows are of ``suppressed`` people, of a time that is left out or of none; the columns are named."""
    until = suppressed.users(batch[user_id])
    gone: Mask = until > NEVER
    if timestamp is not None and gone.any():
        places = np.flatnonzero(gone)
        micros, valid = times.parse(batch[timestamp].take(pa.array(places)))
        gone[places] = ~valid | (micros <= until[places])
    return gone


class InteractionReader:
    """Reads one interactions file and looks at every row; bad ones are set aside, ``rows`` are read so far.

    Rows of ``suppressed`` people are as if they were not there, but for the numbers of the others. Of rows that are no
    purchases by their ``orders`` only the number is known. Of items ``chosen`` from a catalogue, interactions with
    ``others`` are counted and left out, not rejected.
    """

    def __init__(
        self,
        source: TableReader,
        columns: InteractionColumns,
        settings: InteractionSettings,
        items: IdMap,
        rejects: Rejects,
        *,
        chosen: bool = False,
        suppressed: SuppressionList = NOBODY,
    ) -> None:
        self.rows = self.others = 0
        self.times = TimeParser(settings.time_unit, settings.time_format, settings.time_zone)
        self.orders = OrderStatus(settings, vars(columns))
        self._source, self._columns, self._rejects = source, columns, rejects
        self._known, self._chosen, self._suppressed = items, chosen, suppressed
        self._users, self._events = Codes(), Codes(EVENT_TYPES)
        self._timed = self._early = 0  # times so far, and those before 1990

    def read(self, progress: Progress) -> tuple[RawInteractions, pa.Array]:
        """All usable interactions, and the user ids in row order.

        Dates before 1990 and those more than a day ahead of the clock are bad: a user's last item is what training
        validates on. Where most times are before 1990, they are no dates, and each of them only tells the order.
        """
        joined = self.read_columns(progress)
        numbers = joined.pop("row")
        log, users = RawInteractions(**joined), pa.array(self.users, pa.large_string())
        if log.micros is None or not self.dates:
            return log, users
        reasons = impossible(log.micros, time.time())
        bad = np.flatnonzero(np.logical_or.reduce(list(reasons.values())))
        for place in bad.tolist():
            reason = next(reason for reason, mask in reasons.items() if mask[place])
            item_id, when = self._known.id(int(log.item[place])), written(int(log.micros[place]))
            self._rejects.add(self._source.path.name, int(numbers[place]), item_id, reason, when)
        return log.without(bad).without_idle(users) if len(bad) else (log, users)

    def read_columns(self, progress: Progress) -> dict[str, npt.NDArray[Any]]:
        """All rows that can be read, by the names of :class:`RawInteractions`, and the ``row`` of the file of each."""
        none = np.zeros(0, np.int32)
        parts: dict[str, list[npt.NDArray[Any]]] = defaultdict(list, user=[none], item=[none], row=[none])
        for rows, values in self.batches(progress):
            for name, array in {**values, "row": rows.numbers.astype(np.int32)}.items():
                parts[name].append(array)
        return {name: np.concatenate(parts.pop(name)) for name in list(parts)}

    @property
    def users(self) -> list[str]:
        """The ids of the users so far, by number."""
        return list(self._users.rows)

    def batches(self, progress: Progress) -> Iterator[tuple[RowBatch, dict[str, npt.NDArray[Any]]]]:
        """The usable rows, and their values by the names of :class:`RawInteractions`, without those it has not."""
        columns = self._columns
        read = list(dict.fromkeys(name for name in vars(columns).values() if name is not None))
        # The values of CSV are read as written, which spares a pass over the file to find out their types.
        written = read if self._source.untyped else [columns.user_id, columns.item_id]
        if (when := columns.timestamp) is not None:
            again = [when] if self._source.untyped else []
            self.times.look_through(lambda: (r.batch[when] for r in self._source.batches([when], BATCH, None, again)))
        for every in self.orders.filled(self._source.batches(read, BATCH, self._rejects, written)):
            gone = suppressed_rows(every.batch, columns.user_id, columns.timestamp, self.times, self._suppressed)
            there = every.where(~gone)
            rows = self.orders.purchases(there)
            checks = RowChecks(len(rows))
            values = self._values(rows, checks)
            self._rejects.add_failed(self._source.path.name, rows, checks, columns.item_id)
            good = rows.where(checks.good)
            values = {name: array[checks.good] for name, array in values.items()}
            if columns.weight is not None:
                values["weight"] = values["weight"].astype(np.float32)
            values["user"] = self._users.encode(good.batch[columns.user_id])
            if columns.event is not None:
                values["event"] = self._event_types(as_strings(good.batch[columns.event]).fill_null(""))
            yield good, values
            self.rows += len(there)
            progress.advance(len(every))
            pa.default_memory_pool().release_unused()  # the allocator keeps what a batch leaves

    @property
    def dates(self) -> bool:
        """Whether most of the times lie where dates do; else they are counters or of another unit."""
        return self._early * 2 <= self._timed

    def _items(self, ids: pa.Array, checks: RowChecks) -> npt.NDArray[np.int32]:
        """Item rows, which are checked."""
        encoded = ids.dictionary_encode()
        codes = np.asarray(encoded.indices.fill_null(-1))
        rows: npt.NDArray[np.int32] = np.append(self._known.rows(encoded.dictionary), np.int32(-1))[codes]
        if self._chosen:
            self.others += int((checks.good & (rows < 0)).sum())
            checks.good &= rows >= 0
        checks(rows >= 0, "unknown item", self._columns.item_id)
        return rows

    def _event_types(self, names: pa.Array) -> npt.NDArray[np.int32]:
        """The place of each name in ``EVENT_TYPES``; -2 and below where it is none of these, another for each."""
        encoded = names.dictionary_encode()
        own = [event_type(name) or name for name in encoded.dictionary.to_pylist()]
        codes = self._events.encode(pa.array(own, pa.string()))
        known = len(EVENT_TYPES)
        found: npt.NDArray[np.int32] = np.where(codes < known, codes, known - 2 - codes)[np.asarray(encoded.indices)]
        return found

    def _values(self, rows: RowBatch, check: RowChecks) -> dict[str, npt.NDArray[Any]]:
        columns, batch = self._columns, rows.batch
        values: dict[str, npt.NDArray[Any]] = {}
        check(present_values(batch[columns.user_id]), "missing user id")
        check(present_values(batch[columns.item_id]), "missing item id")
        values["item"] = self._items(batch[columns.item_id], check)
        if columns.timestamp is not None:
            values["micros"], valid = self.times.parse(batch[columns.timestamp])
            check(np.asarray(pc.is_valid(batch[columns.timestamp])), "missing time")
            check(valid, "unparsable time", columns.timestamp)
            self._timed += int(valid.sum())
            self._early += int((valid & (values["micros"] < EARLIEST)).sum())
        if columns.position is not None:
            values["position"], valid = as_floats(batch[columns.position])
            check(valid, "position is not a number", columns.position)
        if columns.weight is not None:
            found, valid = as_floats(batch[columns.weight], self._decimal)
            values["weight"] = found = np.where(np.isnan(found), 1.0, found)
            check(valid & (found > 0), NOT_POSITIVE, columns.weight)
            check((found >= LEAST_WEIGHT) & (found <= MOST_WEIGHT), WEIGHT_OUTSIDE, columns.weight)
        return values

    @cached_property
    def _decimal(self) -> str:
        """The decimal sign of the weights: as the settings say, else a comma where some can have no other."""
        source, weight = self._source, str(self._columns.weight)
        if source.decimal is not None or not source.untyped:
            return source.decimal or "."
        return "," if "," in signs_of_numbers(source, [weight]) else "."


class Codes:
    """Strings → numbers in order of first appearance, after the known ones; ``rows`` has the number of each."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.rows: dict[str, int] = {value: row for row, value in enumerate(known)}

    def encode(self, array: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int32]:
        """The number of each string, -1 where it is missing."""
        encoded = (array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array).dictionary_encode()
        rows = self.rows
        codes = [rows.setdefault(value, len(rows)) for value in encoded.dictionary.to_pylist()]
        found: npt.NDArray[np.int32] = np.asarray([*codes, -1], np.int32)[np.asarray(encoded.indices.fill_null(-1))]
        return found


def as_floats(array: pa.Array, decimal: str = ".") -> tuple[npt.NDArray[np.float64], Mask]:
    """Values as float64, NaN where missing, and which are missing or finite numbers; ``decimal`` is that of strings."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    missing = np.asarray(pc.is_null(array))
    if pa.types.is_null(array.type):
        values = np.full(len(array), np.nan)
    elif not is_string(array.type):
        values = np.asarray(doubles(array).fill_null(np.nan))
    elif decimal == ",":
        values = written_numbers(array, decimal)
    else:
        values = np.array([_number(text) for text in array.to_pylist()], np.float64)
    return np.where(missing, np.nan, values), missing | np.isfinite(values)


def signs_of_numbers(source: TableReader, columns: Sequence[str]) -> dict[str, str]:
    """A number of the columns that can only have a decimal point, one that can only have a comma, and one with either.

    They are at ".", "," and "", where there is such a number.
    """
    first: dict[str, str] = {}
    for rows in source.batches(columns, BATCH, None, columns if source.untyped else ()):
        for array in filter(lambda one: is_string(one.type), rows.batch.columns):
            text = pc.utf8_trim_whitespace(as_strings(array)).drop_null()
            patterns = (WRITTEN["."], WRITTEN[","], "[.,]")
            point, comma, separated = (np.asarray(pc.match_substring_regex(text, pattern)) for pattern in patterns)
            for sign, places in ((".", point & ~comma), (",", comma & ~point), ("", point & comma & separated)):
                if places.any():
                    first.setdefault(sign, text[int(places.argmax())].as_py())
    return first


def written_numbers(array: pa.Array, decimal: str) -> npt.NDArray[np.float64]:
    """Strings such as 1.299,00 or € 12,50 as numbers of a decimal sign, NaN where they are none."""
    text = pc.utf8_trim_whitespace(array)
    fits = pc.fill_null(pc.match_substring_regex(text, WRITTEN[decimal]), False)
    numbers = as_doubles(pc.if_else(fits, text, "0"), decimal)
    return np.where(np.asarray(fits), np.asarray(numbers), np.nan)


def _number(text: str | None) -> float:
    try:
        return np.nan if text is None else float(text)
    except ValueError:
        return np.nan
