"""From the interactions file to arrays, counting every row that cannot be used."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import RowChecks, Rows
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.catalog.values import shown
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.columns import LogColumns
from molar_retrieval.interactions.read import NOT_POSITIVE, WEIGHT_OUTSIDE, Codes, LogBatches
from molar_retrieval.interactions.times import TimeParser
from molar_retrieval.progress import Progress
from molar_retrieval.quality.bounded import Bounded
from molar_retrieval.quality.findings import Finding, Kind
from molar_retrieval.quality.log import kinds
from molar_retrieval.quality.log.rows import Growing, Held, NumberedLog


class BrokenRows(Rejects):
    """Takes the rows that a source cannot read, as findings.

    Args:
        found: Where they go.
        kind: What they are.
    """

    def __init__(self, found: Bounded, kind: Kind) -> None:
        super().__init__(Path())
        self._found, self._kind = found, kind

    def add(self, file: str, row: int, item_id: str | None, kind: str, detail: str = "") -> None:
        """Count one, and keep it as an example."""
        words = f"{kind}: {detail}" if detail else kind
        self._found.add(Finding(self._kind, words, item_id=item_id, file=file, row=int(row)))


@dataclass(frozen=True)
class Read:
    """What was read.

    Attributes:
        held: Usable rows in the order of the file, and those with unknown items.
        users: User ids by number.
        unknown: Ids of the items that the catalogue lacks; the first has the number of items in the catalogue.
        rows: Rows of the file.
        times: How the times were read; None: there are none.
    """

    held: Held
    users: list[str]
    unknown: list[str]
    rows: int
    times: str | None


_KINDS = {
    "missing user id": (kinds.MISSING_USER, "user_id"),
    "missing item id": (kinds.MISSING_ITEM, "item_id"),
    "missing time": (kinds.MISSING_TIME, "timestamp"),
    "unparsable time": (kinds.BAD_TIME, "timestamp"),
    "position is not a number": (kinds.BAD_POSITION, "position"),
    NOT_POSITIVE: (kinds.BAD_WEIGHT, "weight"),
    WEIGHT_OUTSIDE: (kinds.BAD_WEIGHT, "weight"),
}
"""Kinds of findings by the reason for which a row is set aside, and the column that is at fault."""


class RawReader(LogBatches):
    """Reads one interactions file; rows with items that the catalogue lacks are kept.

    Args:
        source: The file.
        columns: What its columns mean.
        items: The catalogue's ids.
        times: Reads its times.
        found: Takes what is wrong.
    """

    def __init__(
        self, source: TableSource, columns: LogColumns, items: IdMap, times: TimeParser, found: Bounded
    ) -> None:
        super().__init__(source, columns, times, BrokenRows(found, kinds.BROKEN_ROW))
        self._found = found
        self._codes = Codes(items.array.to_pylist())
        self._known = len(items)

    def read(self, progress: Progress) -> Read:
        """All rows."""
        columns = self._columns
        wanted: dict[str, type] = {"user": np.int32, "item": np.int32, "number": np.uint32}
        wanted |= {"micros": np.int64} if columns.timestamp else {}
        wanted |= {"position": np.float64} if columns.position else {}
        wanted |= {"event": np.int32} if columns.event else {}
        arrays = {name: Growing(dtype, self._source.total or 0) for name, dtype in wanted.items()}
        for rows, values in self.batches(progress):
            values["number"] = rows.numbers
            values["item"] = self._codes.encode(rows.batch[columns.item_id])
            for name, array in arrays.items():
                array.append(values[name])
        whole: dict[str, Any] = dict.fromkeys(("micros", "position", "weight", "event"))
        for name in list(arrays):
            whole[name] = arrays.pop(name).whole()
        unknown = list(self._codes.rows)[self._known :]
        count = self.rows + self._found.counts[kinds.BROKEN_ROW.name]
        return Read(Held(NumberedLog(**whole)), list(self._users.rows), unknown, count, self._times.read_as)

    def _items(self, ids: pa.Array, checks: RowChecks) -> None:
        return None

    def _report(self, rows: Rows, checks: RowChecks) -> None:
        users, ids = rows.batch[self._columns.user_id], rows.batch[self._columns.item_id]
        for places, reason, _ in checks.failed:
            kind, role = _KINDS[reason]
            column = getattr(self._columns, role)

            def finding(i: int, kind: Kind = kind, column: str = column) -> Finding:
                value = shown(rows.batch[column], i)
                return Finding(
                    kind,
                    f"the {column} is empty" if value in ("None", "''") else f"the {column} is {value}",
                    item_id=ids[i].as_py(),
                    user_id=users[i].as_py(),
                    file=self._source.path.name,
                    row=int(rows.numbers[i]),
                    column=column,
                )

            self._found.each(kind, places, finding)
