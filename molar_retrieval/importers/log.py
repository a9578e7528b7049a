"""From a format's log to ``interactions.parquet``: known items only, times of one type, bad rows set aside."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import RowChecks
from molar_retrieval.columns import ITEM_ID, TIMESTAMP, USER_ID
from molar_retrieval.ids import IdMap
from molar_retrieval.importers.published import Published
from molar_retrieval.importers.tables import TableFile, with_columns
from molar_retrieval.interactions.read import present
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
            check = RowChecks(len(part))
            check(present(part.batch[USER_ID]), "missing user id")
            check(present(part.batch[ITEM_ID]), "missing item id")
            check(timed, "missing or unreadable time", TIMESTAMP)
            check(found >= 0, "item unknown to the items file", ITEM_ID)
            rejects.add_failed(name, part, check, ITEM_ID)
            good = check.good
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
        raise rejects.unusable(
            published.log_file,
            rows,
            nothing="check that it is the file as published",
            remedy="check that the items file and the log are of one and the same data set, as published",
            before=before,
        )
    return LogFacts(written, len(users), used)


def _in_order(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Who, what and when come first."""
    first = [USER_ID, ITEM_ID, TIMESTAMP]
    return batch.select([*first, *(name for name in batch.schema.names if name not in first)])
