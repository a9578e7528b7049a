"""Rows of orders: blank fields are those of the row before, and cancelled orders are no purchases."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data.rows import RowBatch
from molar_retrieval.data.schema import InteractionSettings
from molar_retrieval.data.values import as_strings
from molar_retrieval.data.variants import present_values

_MOST = 50  # values of a status that are counted by themselves
_OTHERS = "(others)"


class OrderStatus:
    """Fills down, and leaves out what is no purchase, as ``[interactions]`` says it of a file.

    Args:
        asked: Which values of the status say that a row is no purchase.
        columns: The columns by role, of which ``order_id``, ``status`` and ``cancelled_at`` may be missing.
    """

    def __init__(self, asked: InteractionSettings, columns: Mapping[str, str | None]) -> None:
        self.excluded: Counter[str] = Counter()  # rows that are no purchases, by status
        self.counted: Counter[str] = Counter()  # the others
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
        for rows in read:
            if not len(rows):
                continue
            batch = rows.batch if before is None else pa.concat_batches([before, rows.batch])
            whole = RowBatch(np.arange(len(batch)), batch).with_columns(self._filled(batch)).batch
            before = whole.slice(len(whole) - 1)
            yield RowBatch(rows.numbers, whole.slice(len(whole) - len(rows)))

    def _filled(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        orders = as_strings(batch[str(self._order)])
        codes = np.asarray(orders.dictionary_encode().indices.fill_null(-1))
        place = np.arange(len(batch))
        new = ~present_values(orders) | np.append(True, codes[1:] != codes[:-1])
        first = np.maximum.accumulate(np.where(new, place, 0))
        filled = {}
        for name in self._down:
            there = present_values(batch[name])
            last = np.maximum.accumulate(np.where(there, place, -1))
            if not there.all():
                filled[name] = batch[name].take(pa.array(np.where(last >= first, last, place)))
        return filled

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
            self._count(self.excluded, names, codes[keep & out])
            keep &= ~out
            self._count(self.counted, names, codes[keep])
        return rows.where(keep)

    @staticmethod
    def _count(counts: Counter[str], names: list[str], codes: npt.NDArray[np.integer]) -> None:
        for code, n in zip(*map(np.ndarray.tolist, np.unique(codes, return_counts=True)), strict=True):
            counts[names[code] if names[code] in counts or len(counts) < _MOST else _OTHERS] += n

    @property
    def facts(self) -> dict[str, dict[str, int]]:
        """The counts, as the facts of a manifest have them; none where neither status nor cancellation is named."""
        if self._status is None and self._cancelled is None:
            return {}
        return {"excluded": dict(self.excluded.most_common()), "counted": dict(self.counted.most_common())}


def excluded_in_words(excluded: dict[str, int]) -> str:
    """How many rows are no purchases, by status; empty where there are none."""
    if not excluded:
        return ""
    return f"{sum(excluded.values()):,} rows excluded ({', '.join(f'{n:,} × {one}' for one, n in excluded.items())})"


def _folded(status: str) -> str:
    return " ".join(status.split()).casefold()
