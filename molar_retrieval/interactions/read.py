"""From the interactions file to arrays: ids become row numbers as the batches arrive, bad rows are set aside."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.rows import Mask, Rejects, RowBatch, RowChecks
from molar_retrieval.data.schema import InteractionSettings
from molar_retrieval.data.values import WRITTEN, as_doubles, as_strings, decimal_commas, doubles, is_string
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.columns import LogColumns
from molar_retrieval.interactions.log import counts
from molar_retrieval.interactions.order_status import OrderStatus
from molar_retrieval.interactions.raw import RawLog
from molar_retrieval.interactions.times import EARLIEST, TimeParser, impossible, written
from molar_retrieval.privacy.suppression import NEVER, NOBODY, SuppressionList
from molar_retrieval.progress import Progress

BATCH = 262_144
LEAST_WEIGHT, MOST_WEIGHT = 1e-9, 1e9  # factors of 32 bits hold what is between them, and sums of it
_THOUSANDS = r"^[1-9][0-9]{0,2}(\.[0-9]{3})+$"
NOT_POSITIVE = "weight is not a positive number"
WEIGHT_OUTSIDE = "weight is not between 1e-9 and 1e9"


def left_out(
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


class LogBatches(ABC):
    """Reads one interactions file batch by batch and looks at every row; ``rows`` are read so far.

    Rows of ``suppressed`` people are as if they were not there, but for the numbers of the others. Of rows that are no
    purchases by their ``orders`` only the number is known.
    """

    def __init__(
        self,
        source: TableReader,
        columns: LogColumns,
        times: TimeParser,
        rejects: Rejects,
        suppressed: SuppressionList = NOBODY,
        orders: OrderStatus | None = None,
    ) -> None:
        self.rows = 0
        self.orders = orders or OrderStatus(InteractionSettings(), {})
        self._source, self._columns, self._times, self._rejects = source, columns, times, rejects
        self._users, self._events = Codes(), Codes()
        self._commas, self._thousands = source.decimal == ",", False  # what the weights so far have
        self._timed = self._early = 0  # times so far, and those before 1990
        self._suppressed = suppressed

    def batches(self, progress: Progress) -> Iterator[tuple[RowBatch, dict[str, npt.NDArray[Any]]]]:
        """The usable rows, and their values by the names of :class:`RawLog` but for columns that there are not."""
        columns = self._columns
        # The values of CSV are read as written, which spares a pass over the file to find out their types.
        written = columns.all() if self._source.untyped else [columns.user_id, columns.item_id]
        if (when := columns.timestamp) is not None:
            again = [when] if self._source.untyped else []
            self._times.look_through(lambda: (r.batch[when] for r in self._source.batches([when], BATCH, None, again)))
        for every in self.orders.filled(self._source.batches(columns.all(), BATCH, self._rejects, written)):
            gone = left_out(every.batch, columns.user_id, columns.timestamp, self._times, self._suppressed)
            there = every.where(~gone)
            rows = self.orders.purchases(there)
            checks = RowChecks(len(rows))
            values = self._values(rows, checks)
            self._report(rows, checks)
            good = rows.where(checks.good)
            values = {name: array[checks.good] for name, array in values.items()}
            if columns.weight is not None:
                values["weight"] = values["weight"].astype(np.float32)
            values["user"] = self._users.encode(good.batch[columns.user_id])
            if columns.event is not None:
                values["event"] = self._events.encode(as_strings(good.batch[columns.event]).fill_null(""))
            yield good, values
            self.rows += len(there)
            progress.advance(len(every))
            pa.default_memory_pool().release_unused()  # the allocator keeps what a batch leaves

    @property
    def dates(self) -> bool:
        """Whether most of the times lie where dates do; else they are counters or of another unit."""
        return self._early * 2 <= self._timed

    @abstractmethod
    def _items(self, ids: pa.Array, checks: RowChecks) -> npt.NDArray[np.int32] | None:
        """Item rows, where they are checked as well; else None."""

    @abstractmethod
    def _report(self, rows: RowBatch, checks: RowChecks) -> None:
        """Take the rows that failed."""

    def _values(self, rows: RowBatch, check: RowChecks) -> dict[str, npt.NDArray[Any]]:
        columns, batch = self._columns, rows.batch
        values: dict[str, npt.NDArray[Any]] = {}
        check(present(batch[columns.user_id]), "missing user id")
        check(present(batch[columns.item_id]), "missing item id")
        if (items := self._items(batch[columns.item_id], check)) is not None:
            values["item"] = items
        if columns.timestamp is not None:
            values["micros"], valid = self._times.parse(batch[columns.timestamp])
            check(np.asarray(pc.is_valid(batch[columns.timestamp])), "missing time")
            check(valid, "unparsable time", columns.timestamp)
            self._timed += int(valid.sum())
            self._early += int((valid & (values["micros"] < EARLIEST)).sum())
        if columns.position is not None:
            values["position"], valid = as_floats(batch[columns.position])
            check(valid, "position is not a number", columns.position)
        if columns.weight is not None:
            found, valid = as_floats(self._weights(batch[columns.weight]))
            values["weight"] = found = np.where(np.isnan(found), 1.0, found)
            check(valid & (found > 0), NOT_POSITIVE, columns.weight)
            check((found >= LEAST_WEIGHT) & (found <= MOST_WEIGHT), WEIGHT_OUTSIDE, columns.weight)
        return values

    def _weights(self, array: pa.Array) -> pa.Array:
        """Weights of CSV with decimal commas as numbers; a DataError if 1.250 came before one, which may be 1250."""
        if not self._source.untyped or self._source.decimal == ".":
            return array
        written = pc.utf8_trim_whitespace(array)
        if not self._commas and decimal_commas(written):
            if self._thousands:
                words = f"{self._source.path.name}: the weights have decimal commas, and before them points"
                raise DataError(words, "write all of them with a decimal point")
            self._commas = True
        if not self._commas:
            self._thousands |= bool(pc.any(pc.match_substring_regex(written, _THOUSANDS), min_count=0).as_py())
            return array
        fits = pc.match_substring_regex(written, WRITTEN[","])
        numbers = as_doubles(pc.if_else(fits, written, pa.scalar("0")), ",")
        return pc.if_else(fits, numbers, pa.scalar(np.nan))


class LogReader(LogBatches):
    """Reads one interactions file into arrays, bad rows set aside.

    Dates before 1990 and those more than a day ahead of the clock are bad: a user's last item is what training
    validates on. Where most times are before 1990, they are no dates, and each of them only tells the order. Of items
    ``chosen`` from a catalogue, interactions with ``others`` are counted and left out, not rejected.
    """

    def __init__(
        self,
        source: TableReader,
        columns: LogColumns,
        items: IdMap,
        times: TimeParser,
        rejects: Rejects,
        *,
        chosen: bool = False,
        suppressed: SuppressionList = NOBODY,
        orders: OrderStatus | None = None,
    ) -> None:
        super().__init__(source, columns, times, rejects, suppressed, orders)
        self.others = 0
        self._now = time.time()
        self._known, self._chosen = items, chosen

    @property
    def kinds(self) -> list[str]:
        """The names of the codes of events, so far."""
        return list(self._events.rows)

    def read(self, progress: Progress) -> tuple[RawLog, pa.Array]:
        """All usable interactions, and the user ids in row order."""
        batches, wrong = [], [np.zeros(0, np.int64)]
        for rows, values in self.batches(progress):
            if "micros" in values:
                wrong.append(rows.numbers[self._impossible(values["micros"])])
            batches.append(values)
        joined: dict[str, Any] = {}
        for field in fields(RawLog):
            arrays = [values.pop(field.name) for values in batches if field.name in values]
            joined[field.name] = np.concatenate(arrays) if arrays else None
        if not batches:
            joined["user"] = joined["item"] = np.zeros(0, np.int32)
        log, users = RawLog(**joined), pa.array(self._users.rows, pa.large_string())
        numbers = np.concatenate(wrong)
        return self._possible(log, users, numbers) if len(numbers) and self.dates else (log, users)

    def _possible(self, log: RawLog, users: pa.Array, numbers: npt.NDArray[np.int64]) -> tuple[RawLog, pa.Array]:
        """Without interactions at times that cannot be, in the rows of these numbers, and users that have no others."""
        assert log.micros is not None
        bad = np.flatnonzero(self._impossible(log.micros))
        reasons = impossible(log.micros[bad], self._now)
        for n, (place, number) in enumerate(zip(bad.tolist(), numbers.tolist(), strict=True)):
            reason = next(reason for reason, mask in reasons.items() if mask[n])
            item_id = self._known.id(int(log.item[place]))
            self._rejects.add(self._source.path.name, number, item_id, reason, written(int(log.micros[place])))
        log = log.without(bad)
        left = counts(log.user, len(users)) > 0
        renumbered = (np.cumsum(left) - 1).astype(np.int32)
        return replace(log, user=renumbered[log.user]), users.filter(pa.array(left))

    def _impossible(self, micros: npt.NDArray[np.int64]) -> Mask:
        bad = np.zeros(len(micros), bool)
        for wrong in impossible(micros, self._now).values():
            bad |= wrong
        return bad

    def _items(self, ids: pa.Array, checks: RowChecks) -> npt.NDArray[np.int32]:
        encoded = ids.dictionary_encode()
        codes = np.asarray(encoded.indices.fill_null(-1))
        rows: npt.NDArray[np.int32] = np.append(self._known.rows(encoded.dictionary), np.int32(-1))[codes]
        if self._chosen:
            self.others += int((checks.good & (rows < 0)).sum())
            checks.good &= rows >= 0
        checks(rows >= 0, "unknown item", self._columns.item_id)
        return rows

    def _report(self, rows: RowBatch, checks: RowChecks) -> None:
        self._rejects.add_failed(self._source.path.name, rows, checks, self._columns.item_id)


class Codes:
    """Strings → numbers in order of first appearance, after the known ones; ``rows`` has the number of each."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.rows: dict[str, int] = {value: row for row, value in enumerate(known)}

    def encode(self, array: pa.Array) -> npt.NDArray[np.int32]:
        """The number of each string of an array without missing values."""
        encoded = array.dictionary_encode()
        rows = self.rows
        codes = [rows.setdefault(value, len(rows)) for value in encoded.dictionary.to_pylist()]
        found: npt.NDArray[np.int32] = np.asarray(codes, np.int32)[np.asarray(encoded.indices)]
        return found


def present(ids: pa.Array) -> Mask:
    """Which ids are there and not blank."""
    return np.asarray(pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(ids), ""), False))


def as_floats(array: pa.Array) -> tuple[npt.NDArray[np.float64], Mask]:
    """Values as float64, NaN where missing, and which are missing or finite numbers."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    missing = np.asarray(pc.is_null(array))
    if is_string(array.type):
        values = np.array([_number(text) for text in array.to_pylist()], np.float64)
    elif pa.types.is_null(array.type):
        values = np.full(len(array), np.nan)
    else:
        values = np.asarray(doubles(array).fill_null(np.nan))
    return np.where(missing, np.nan, values), missing | np.isfinite(values)


def _number(text: str | None) -> float:
    try:
        return np.nan if text is None else float(text)
    except ValueError:
        return np.nan
