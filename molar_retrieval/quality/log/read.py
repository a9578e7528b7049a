"""From the interactions file to arrays, counting every row that cannot be used."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows, Source
from molar_retrieval.catalog.values import as_written, shown
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.columns import LogColumns
from molar_retrieval.interactions.read import BATCH, Codes, Mask, as_floats, is_weight, present
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


class RawReader:
    """Reads one interactions file.

    Args:
        source: The file.
        columns: What its columns mean.
        items: The catalogue's ids.
        times: Reads its times.
        found: Takes what is wrong.
    """

    def __init__(self, source: Source, columns: LogColumns, items: IdMap, times: TimeParser, found: Bounded) -> None:
        self._source, self._columns, self._times, self._found = source, columns, times, found
        self._users, self._events = Codes(), Codes()
        self._items = Codes(items.array.to_pylist())
        self._known = len(items)
        self._broken = BrokenRows(found, kinds.BROKEN_ROW)

    def read(self, progress: Progress) -> Read:
        """All rows."""
        columns, source = self._columns, self._source
        wanted: dict[str, type] = {"user": np.int32, "item": np.int32, "number": np.uint32}
        wanted |= {"micros": np.int64} if columns.timestamp else {}
        wanted |= {"position": np.float64} if columns.position else {}
        wanted |= {"event": np.int32} if columns.event else {}
        arrays = {name: Growing(dtype, source.total or 0) for name, dtype in wanted.items()}
        written = columns.all() if source.path.suffix == ".csv" else [columns.user_id, columns.item_id]
        rows = 0
        for batch in source.batches(columns.all(), BATCH, self._broken, written):
            for name, values in self._batch(batch).items():
                arrays[name].append(values)
            rows += len(batch.numbers)
            progress.advance(len(batch.numbers))
        whole: dict[str, Any] = dict.fromkeys(("micros", "position", "weight", "event"))
        for name in list(arrays):
            whole[name] = arrays.pop(name).whole()
        rows += self._found.counts[kinds.BROKEN_ROW.name]
        unknown = list(self._items.rows)[self._known :]
        return Read(Held(NumberedLog(**whole)), list(self._users.rows), unknown, rows, self._times.read_as)

    def _batch(self, rows: Rows) -> dict[str, npt.NDArray[np.generic]]:
        columns, batch = self._columns, rows.batch
        users, ids = batch[columns.user_id], batch[columns.item_id]
        check = _Checks(rows, users, ids, self._source.path.name, self._found)
        check(present(users), kinds.MISSING_USER, columns.user_id)
        check(present(ids), kinds.MISSING_ITEM, columns.item_id)
        taken: dict[str, npt.NDArray[np.generic]] = {}
        if columns.timestamp is not None:
            times = batch[columns.timestamp]
            taken["micros"], valid = self._times.parse(times)
            check(np.asarray(pc.is_valid(times)), kinds.MISSING_TIME, columns.timestamp)
            check(valid, kinds.BAD_TIME, columns.timestamp)
        if columns.position is not None:
            taken["position"], valid = as_floats(batch[columns.position])
            check(valid, kinds.BAD_POSITION, columns.position)
        if columns.weight is not None:
            weight, valid = as_floats(batch[columns.weight])
            check(valid & is_weight(weight), kinds.BAD_WEIGHT, columns.weight)
        if columns.event is not None:
            taken["event"] = self._events.encode(as_written(batch[columns.event]).fill_null(""))
        keep = pa.array(check.good)
        taken = {name: values[check.good] for name, values in taken.items()}
        taken["number"] = rows.numbers[check.good].astype(np.uint32)
        taken["user"] = self._users.encode(users.filter(keep))
        taken["item"] = self._items.encode(ids.filter(keep))
        return taken


class _Checks:
    """Which rows of a batch are good so far; a bad row counts for the first thing that is wrong with it."""

    def __init__(self, rows: Rows, users: pa.Array, ids: pa.Array, file: str, found: Bounded) -> None:
        self.good = np.ones(len(rows.numbers), bool)
        self._rows, self._users, self._ids, self._file, self._found = rows, users, ids, file, found

    def __call__(self, fine: Mask, kind: Kind, column: str) -> None:
        values = self._rows.batch[column]

        def finding(i: int) -> Finding:
            value = shown(values, i)
            return Finding(
                kind,
                f"the {column} is empty" if value in ("None", "''") else f"the {column} is {value}",
                item_id=self._ids[i].as_py(),
                user_id=self._users[i].as_py(),
                file=self._file,
                row=int(self._rows.numbers[i]),
                column=column,
            )

        self._found.each(kind, np.flatnonzero(self.good & ~fine), finding)
        self.good &= fine
