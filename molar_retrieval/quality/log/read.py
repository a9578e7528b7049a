"""From the interactions file to arrays, counting every row that cannot be used."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import RowChecks, Rows
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.catalog.values import shown
from molar_retrieval.catalog.variants import of_items
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.columns import LogColumns
from molar_retrieval.interactions.order_status import OrderStatus
from molar_retrieval.interactions.read import NOT_POSITIVE, WEIGHT_OUTSIDE, Codes, LogBatches
from molar_retrieval.interactions.suppressed import NOBODY, SuppressedPeople
from molar_retrieval.interactions.times import TimeParser
from molar_retrieval.progress import Progress
from molar_retrieval.quality.collector import Collector
from molar_retrieval.quality.findings import Finding, fault
from molar_retrieval.quality.log.rows import LogRows

BROKEN_ROW = "log.broken_row"


class BrokenRows(Rejects):
    """Takes the rows that a source cannot read, as findings."""

    def __init__(self, found: Collector) -> None:
        super().__init__(Path())
        self._found = found

    def add(self, file: str, row: int, item_id: str | None, kind: str, detail: str = "") -> None:
        """Count one, and keep it as an example."""
        words = f"{kind}: {detail}" if detail else kind
        self._found.add(BROKEN_ROW, words, item_id=item_id, file=file, row=int(row))


@dataclass(frozen=True)
class ReadLog:
    """What was read: usable rows (``log``) in the order of the file, those with unknown items among them.

    ``users`` are ids by number; the first of the ``unknown`` items, which the catalogue lacks, has the number of items
    in the catalogue; ``rows`` are those of the file; ``times`` tells how times were read, None: there are none;
    ``dates`` whether most of them lie where dates do.
    """

    log: LogRows
    users: list[str]
    unknown: list[str]
    rows: int
    times: str | None
    dates: bool


_KINDS = {
    "missing user id": ("log.missing_user", "user_id"),
    "missing item id": ("log.missing_item", "item_id"),
    "missing time": ("log.missing_time", "timestamp"),
    "unparsable time": ("log.bad_time", "timestamp"),
    "position is not a number": ("log.bad_position", "position"),
    NOT_POSITIVE: ("log.bad_weight", "weight"),
    WEIGHT_OUTSIDE: ("log.bad_weight", "weight"),
}
"""Kinds of findings by the reason for which a row is set aside, and the column that is at fault."""


class RawReader(LogBatches):
    """Reads one interactions file; rows with items that the catalogue lacks are kept."""

    def __init__(
        self,
        source: TableSource,
        columns: LogColumns,
        items: IdMap,
        times: TimeParser,
        found: Collector,
        suppressed: SuppressedPeople = NOBODY,
        orders: OrderStatus | None = None,
    ) -> None:
        super().__init__(source, columns, times, BrokenRows(found), suppressed, orders)
        self._found = found
        self._codes = Codes(items.array.to_pylist())
        self._catalogue = items

    def read(self, progress: Progress) -> ReadLog:
        """All rows."""
        parts: dict[str, list[npt.NDArray[Any]]] = defaultdict(list)
        for rows, values in self.batches(progress):
            values["number"] = rows.numbers.astype(np.uint32)
            values["item"] = self._codes.encode(of_items(rows.batch[self._columns.item_id], self._catalogue))
            values.pop("weight", None)  # it was checked
            for name, array in values.items():
                parts[name].append(array)
        none: dict[str, Any] = {name: np.zeros(0, np.int32) for name in ("user", "item", "number")}
        log = LogRows(**(none | {name: np.concatenate(parts.pop(name)) for name in list(parts)}))
        count = self.rows + self._found.counts[BROKEN_ROW]
        unknown = list(self._codes.rows)[len(self._catalogue) :]
        return ReadLog(log, list(self._users.rows), unknown, count, self._times.read_as, self.dates)

    def _items(self, ids: pa.Array, checks: RowChecks) -> None:
        return None

    def _report(self, rows: Rows, checks: RowChecks) -> None:
        users, ids = rows.batch[self._columns.user_id], rows.batch[self._columns.item_id]
        for places, reason, _ in checks.failed:
            kind, role = _KINDS[reason]
            column = getattr(self._columns, role)

            def finding(i: int, kind: str = kind, column: str = column) -> Finding:
                value = shown(rows.batch[column], i)
                detail = f"the {column} is empty" if value in ("None", "''") else f"the {column} is {value}"
                about = {"item_id": ids[i].as_py(), "user_id": users[i].as_py(), "column": column}
                return fault(kind, detail, **about, file=self._source.path.name, row=int(rows.numbers[i]))

            self._found.each(kind, places, finding)
