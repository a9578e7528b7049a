"""From a format's items to ``items.parquet``."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.importers.published import Published
from molar_retrieval.importers.tables import TableFile
from molar_retrieval.progress import Progress

_BATCH = 4_096


def write_items(published: Published, path: Path, rejects: Rejects, progress: Progress) -> IdMap:
    """Write all items that have an id which no item before them had.

    Returns:
        The ids, in the order of the file.

    Raises:
        DataError: If there is none.
    """
    seen: dict[str, None] = {}
    name = published.items_file.name
    progress.start(f"reading {name}", None)
    with TableFile(path) as file:
        for rows in published.items(rejects):
            file.write(rows.batch.filter(pa.array(_new(rows, name, seen, rejects))))
            progress.advance(len(rows.numbers))
    progress.finish()
    if not seen:
        raise DataError(f"{published.items_file} has no usable item", "check that it is the file as published")
    return IdMap(pa.array(list(seen), pa.large_string()))


def _new(rows: Rows, file: str, seen: dict[str, None], rejects: Rejects) -> npt.NDArray[np.bool_]:
    keep = np.ones(len(rows.numbers), bool)
    for i, item_id in enumerate(rows.batch[ITEM_ID].to_pylist()):
        if item_id is None or not item_id.strip():
            keep[i] = False
            rejects.add(file, int(rows.numbers[i]), None, "missing item id")
        elif item_id in seen:
            keep[i] = False
            rejects.add(file, int(rows.numbers[i]), item_id, "repeated item id")
        else:
            seen[item_id] = None
    return keep


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
