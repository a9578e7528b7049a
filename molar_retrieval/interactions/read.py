"""From the interactions file to arrays: ids become row numbers as the batches arrive, bad rows are set aside."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows, Source
from molar_retrieval.catalog.values import as_written, doubles, is_string, shown
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.columns import LogColumns
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.interactions.times import TimeParser
from molar_retrieval.progress import Progress

BATCH = 262_144
LEAST_WEIGHT, MOST_WEIGHT = 1e-9, 1e9
"""Factors of 32 bits hold what is between them, and sums of it."""
WEIGHT_OUTSIDE = "weight is not between 1e-9 and 1e9"
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RawLog:
    """Interactions as arrays of one length, in the order of the file.

    Attributes:
        user: User rows (int32), in order of first appearance.
        item: Rows of the catalogue (int32).
        micros: Microseconds since 1970 (int64), or None for a log without times.
        position: Order within one time (float64, NaN where missing), or None.
        weight: float32, or None.
        event: Codes of event kinds (int32), or None.
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    micros: npt.NDArray[np.int64] | None
    position: npt.NDArray[np.float64] | None
    weight: npt.NDArray[np.float32] | None
    event: npt.NDArray[np.int32] | None

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Any) -> "RawLog":
        """Some rows, by index or mask, in the order given."""
        present = {f.name: values for f in fields(self) if (values := getattr(self, f.name)) is not None}
        return replace(self, **{name: values[rows] for name, values in present.items()})

    def grouped(self, users: IdMap, items: IdMap) -> InteractionLog:
        """An ordered log, ready for use: times in seconds."""
        counts = np.bincount(self.user, minlength=len(users))
        return InteractionLog(
            users=users,
            items=items,
            offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
            item=self.item,
            timestamp=np.zeros(len(self), np.int64) if self.micros is None else self.micros // 1_000_000,
            weight=self.weight,
        )


class LogReader:
    """Reads one interactions file.

    Args:
        source: The file.
        columns: What its columns mean.
        items: The catalogue's ids.
        times: Reads its times.
        rejects: Takes what cannot be used.
        part: Whether the items are a part of the catalogue: interactions with others are left out, not rejected.

    Attributes:
        rows: Rows of the file read so far.
        others: Interactions with other items so far.
    """

    def __init__(
        self,
        source: Source,
        columns: LogColumns,
        items: IdMap,
        times: TimeParser,
        rejects: Rejects,
        *,
        part: bool = False,
    ) -> None:
        self.rows = 0
        self.others = 0
        self._part = part
        self._source, self._columns, self._items, self._times, self._rejects = source, columns, items, times, rejects
        self._users = Codes()
        self._events = Codes()

    def read(self, progress: Progress) -> tuple[RawLog, pa.Array]:
        """All usable interactions, and the user ids in row order."""
        columns = self._columns
        # The values of CSV are read as written, which spares a pass over the file to find out their types.
        text = self._source.path.suffix == ".csv"
        written = columns.all() if text else [columns.user_id, columns.item_id]
        parts = []
        for rows in self._source.batches(columns.all(), BATCH, self._rejects, written):
            parts.append(self._batch(rows))
            self.rows += len(rows.numbers)
            progress.advance(len(rows.numbers))
        return _joined(parts), pa.array(self._users.rows, pa.string())

    def _batch(self, rows: Rows) -> RawLog:
        columns, batch = self._columns, rows.batch
        users, ids = batch[columns.user_id], batch[columns.item_id]
        check = _Checks(rows, ids, self._source.path.name, self._rejects)
        check(present(users), "missing user id")
        check(present(ids), "missing item id")
        item = self._item_rows(ids)
        if self._part:
            self.others += int((check.good & (item < 0)).sum())
            check.good &= item >= 0
        check(item >= 0, "unknown item", ids)
        micros = position = weight = event = None
        if columns.timestamp is not None:
            times = batch[columns.timestamp]
            micros, valid = self._times.parse(times)
            check(np.asarray(pc.is_valid(times)), "missing time")
            check(valid, "unparsable time", times)
        if columns.position is not None:
            values = batch[columns.position]
            position, valid = as_floats(values)
            check(valid, "position is not a number", values)
        if columns.weight is not None:
            values = batch[columns.weight]
            found, valid = as_floats(values)
            found = np.where(np.isnan(found), 1.0, found)
            check(valid & (found > 0), "weight is not a positive number", values)
            check(is_weight(found), WEIGHT_OUTSIDE, values)
            weight = np.where(check.good, found, 1.0).astype(np.float32)
        if columns.event is not None:
            event = self._events.encode(as_written(batch[columns.event]).fill_null(""))
        check.report()
        good = check.good
        user = self._users.encode(users.filter(pa.array(good)))
        rest = (item, micros, position, weight, event)
        return RawLog(user, *(None if values is None else values[good] for values in rest))  # type: ignore[arg-type]

    def _item_rows(self, ids: pa.Array) -> npt.NDArray[np.int32]:
        encoded = ids.dictionary_encode()
        found = self._items.rows(encoded.dictionary)
        codes = np.asarray(encoded.indices.fill_null(-1))
        rows: npt.NDArray[np.int32] = np.append(found, np.int32(-1))[codes]
        return rows


class _Checks:
    """Which rows of a batch are good so far; each bad row is reported once, for the first thing wrong with it."""

    def __init__(self, rows: Rows, ids: pa.Array, file: str, rejects: Rejects) -> None:
        self.good = np.ones(len(rows.numbers), bool)
        self._rows, self._ids, self._file, self._rejects = rows, ids, file, rejects
        self._bad: dict[int, tuple[str, pa.Array | None]] = {}

    def __call__(self, fine: Mask, kind: str, values: pa.Array | None = None) -> None:
        self._bad |= dict.fromkeys(np.flatnonzero(self.good & ~fine).tolist(), (kind, values))
        self.good &= fine

    def report(self) -> None:
        for i in sorted(self._bad):
            kind, values = self._bad[i]
            detail = "" if values is None else shown(values, i)
            self._rejects.add(self._file, int(self._rows.numbers[i]), self._ids[i].as_py(), kind, detail)


class Codes:
    """Strings → numbers in order of first appearance.

    Args:
        known: Strings that have the first numbers.

    Attributes:
        rows: The number of each string.
    """

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


def is_weight(values: npt.NDArray[np.float64]) -> Mask:
    """Which weights can be counted with; what is not a number can."""
    return ~((values < LEAST_WEIGHT) | (values > MOST_WEIGHT))


def _number(text: str | None) -> float:
    try:
        return np.nan if text is None else float(text)
    except ValueError:
        return np.nan


def _joined(parts: list[RawLog]) -> RawLog:
    joined: dict[str, Any] = {}
    for field in fields(RawLog):
        arrays = [getattr(part, field.name) for part in parts]
        kept = [array for array in arrays if array is not None]
        joined[field.name] = np.concatenate(kept) if kept else None
    if not parts:
        joined["user"] = joined["item"] = np.zeros(0, np.int32)
    return RawLog(**joined)
