"""From a format's log to ``interactions.parquet``: known items only, times of one type, bad rows set aside."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows
from molar_retrieval.columns import ITEM_ID, TIMESTAMP, USER_ID
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.importers.published import Published
from molar_retrieval.importers.tables import TableFile, with_columns
from molar_retrieval.interactions.times import TimeParser
from molar_retrieval.progress import Progress

_TIME = pa.timestamp("ms", "UTC")


@dataclass(frozen=True)
class LogFacts:
    """What was written.

    Attributes:
        interactions: How many rows.
        users: How many distinct users.
        used: Which items occur (bool, as many as items).
    """

    interactions: int
    users: int
    used: npt.NDArray[np.bool_]


def write_log(published: Published, items: IdMap, path: Path, rejects: Rejects, progress: Progress) -> LogFacts:
    """Write the interactions with known items, in the order of the file.

    Memory holds the ids of the items and users, and one batch.

    Raises:
        DataError: If no row is usable.
    """
    name, before, times = published.log_file.name, rejects.total, TimeParser(published.time_unit)
    used, users, rows, written = np.zeros(len(items), bool), set[str](), 0, 0
    progress.start(f"reading {name}", None)
    with TableFile(path) as file:
        for part in published.interactions(rejects):
            found = items.rows(part.batch[ITEM_ID])
            micros, timed = times.parse(part.batch[TIMESTAMP])
            good = _good(part, name, found, timed, rejects)
            moments = pa.array(micros // 1000, pa.int64()).cast(_TIME)
            batch = _in_order(with_columns(part.batch, {TIMESTAMP: moments})).filter(pa.array(good))
            file.write(batch)
            used[found[good]] = True
            users.update(pc.unique(batch[USER_ID]).to_pylist())
            rows += len(part.numbers)
            written += len(batch)
            progress.advance(len(part.numbers))
    progress.finish()
    if not written:
        raise _unusable(published.log_file, rows, rejects, before)
    return LogFacts(written, len(users), used)


def _good(
    rows: Rows, file: str, found: npt.NDArray[np.int32], timed: npt.NDArray[np.bool_], rejects: Rejects
) -> npt.NDArray[np.bool_]:
    """Which rows are usable; each other one is reported once, for the first thing wrong with it."""
    ids = rows.batch[ITEM_ID]
    checks = [
        ("missing user id", _present(rows.batch[USER_ID]), None),
        ("missing item id", _present(ids), None),
        ("missing or unreadable time", timed, rows.batch[TIMESTAMP]),
        ("item unknown to the items file", found >= 0, ids),
    ]
    good = np.ones(len(rows.numbers), bool)
    for kind, fine, values in checks:
        for i in np.flatnonzero(good & ~fine):
            detail = "" if values is None else repr(values[i].as_py())
            rejects.add(file, int(rows.numbers[i]), ids[i].as_py(), kind, detail)
        good &= fine
    return good


def _in_order(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Who, what and when come first."""
    first = [USER_ID, ITEM_ID, TIMESTAMP]
    return batch.select([*first, *(name for name in batch.schema.names if name not in first)])


def _present(ids: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(ids), ""), False))


def _unusable(path: Path, rows: int, rejects: Rejects, before: int) -> DataError:
    if rejects.total == before:
        return DataError(f"{path} has no rows", "check that it is the file as published")
    kind, n = rejects.counts.most_common(1)[0]
    return DataError(
        f"{path}: none of its {rows:,} rows is usable; {n:,} × {kind} ({rejects.first[kind]})",
        "check that the items file and the log are of one and the same data set, as published",
    )
