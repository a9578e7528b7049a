"""From published tables to those of a catalogue: items with ids of their own, and a log of known items only."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.catalog.rejects import Rejects, with_new_ids
from molar_retrieval.catalog.rows import RowChecks
from molar_retrieval.catalog.table_file import TableFile
from molar_retrieval.columns import ITEM_ID, TIMESTAMP, USER_ID
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.importers.published import PublishedData, PublishedTable
from molar_retrieval.interactions.read import present
from molar_retrieval.interactions.times import TimeParser
from molar_retrieval.progress import Progress

_BATCH = 4_096
_TIME = pa.timestamp("ms", "UTC")
_KINDS = ("missing item id", "repeated item id")


def write_items(table: PublishedTable, path: Path, rejects: Rejects, progress: Progress) -> IdMap:
    """Write all items that have an id which no item before them had.

    Returns:
        The ids, in the order of the file.

    Raises:
        DataError: If there is none.
    """
    seen: dict[str, None] = {}
    name = table.path.name
    progress.start(f"reading {name}", None)
    with TableFile(path) as file:
        for rows in table.rows(rejects):
            file.write(with_new_ids(rows, ITEM_ID, seen, rejects, name, _KINDS).batch)
            progress.advance(len(rows))
    progress.finish()
    if not seen:
        raise DataError(f"{table.path} has no usable item", "check that it is the file as published")
    return IdMap(pa.array(list(seen), pa.large_string()))


def keep_items(path: Path, used: npt.NDArray[np.bool_]) -> None:
    """Rewrite an items file with some of its rows only.

    Args:
        path: The file.
        used: Which of its rows to keep.
    """
    kept = path.with_suffix(".kept")
    start = 0
    with pq.ParquetFile(path) as old, TableFile(kept) as new:
        for batch in old.iter_batches(_BATCH, use_threads=False):
            new.write(batch.filter(pa.array(used[start : start + len(batch)])))
            start += len(batch)
    kept.replace(path)


def write_users(table: PublishedTable, path: Path, rejects: Rejects, progress: Progress) -> None:
    """Write all users."""
    progress.start(f"reading {table.path.name}", None)
    with TableFile(path) as file:
        for rows in table.rows(rejects):
            file.write(rows.batch)
            progress.advance(len(rows))
    progress.finish()


@dataclass(frozen=True)
class ImportedLog:
    """What was written of a log.

    Attributes:
        interactions: How many rows.
        users: How many distinct users.
        used: Which items occur (bool, as many as items).
    """

    interactions: int
    users: int
    used: npt.NDArray[np.bool_]


def write_interactions(
    published: PublishedData, items: IdMap, path: Path, rejects: Rejects, progress: Progress
) -> ImportedLog:
    """Write the interactions with known items, in the order of the file.

    Memory holds the ids of the items and users, and one batch.

    Raises:
        DataError: If no row is usable.
    """
    name, before, times = published.log.path.name, rejects.total, TimeParser(published.time_unit)
    used, users, count, written = np.zeros(len(items), bool), set[str](), 0, 0
    progress.start(f"reading {name}", None)
    with TableFile(path) as file:
        for rows in published.log.rows(rejects):
            item = items.rows(rows.batch[ITEM_ID])
            micros, timed = times.parse(rows.batch[TIMESTAMP])
            check = RowChecks(len(rows))
            check(present(rows.batch[USER_ID]), "missing user id")
            check(present(rows.batch[ITEM_ID]), "missing item id")
            check(timed, "missing or unreadable time", TIMESTAMP)
            check(item >= 0, "item unknown to the items file", ITEM_ID)
            rejects.add_failed(name, rows, check, ITEM_ID)
            moments = pa.array(micros // 1000, pa.int64()).cast(_TIME)
            batch = rows.with_columns({TIMESTAMP: moments}).where(check.good).batch
            first = [USER_ID, ITEM_ID, TIMESTAMP]
            file.write(batch.select([*first, *(name for name in batch.schema.names if name not in first)]))
            used[item[check.good]] = True
            users.update(pc.unique(batch[USER_ID]).to_pylist())
            count += len(rows)
            written += len(batch)
            progress.advance(len(rows))
    progress.finish()
    if not written:
        raise rejects.unusable(
            published.log.path,
            count,
            nothing="check that it is the file as published",
            remedy="check that the items file and the log are of one and the same data set, as published",
            before=before,
        )
    return ImportedLog(written, len(users), used)
