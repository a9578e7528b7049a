"""What an alignment was made from, kept with it: the items by their ids and the log, which later versions replace.

Rows of items mean places in one catalogue. A later alignment is derived from a former one by the ids, and counts only
what the histories of users have changed since; see :mod:`molar_retrieval.alignment.derive`.
"""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.catalog import Catalogue
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.durable import link_or_copy
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.log import LOG_FILE, USERS_FILE, InteractionLog
from molar_retrieval.workspace import Workspace

_FOLDER, _ITEMS = "seen", "items.parquet"


def keep(read: Workspace, version: Path) -> None:
    """Put the live log, as links where the file system has them, and the catalogue's ids into a version's folder."""
    own = version / _FOLDER
    shutil.rmtree(own, ignore_errors=True)  # of a run that goes on
    own.mkdir()
    ids = Catalogue.open(read["catalogue"].require()[0]).ids
    pq.write_table(pa.table({ITEM_ID: ids.array}), own / _ITEMS, compression="zstd")
    log, _ = read["interactions"].require()
    for name in (LOG_FILE, USERS_FILE):
        link_or_copy(log / name, own / name)


def kept(version: Path) -> InteractionLog | None:
    """The log that an alignment has seen, with the ids of its items; None: an earlier version of molar made it."""
    own = version / _FOLDER
    if not own.is_dir():
        return None
    items = IdMap(pq.read_table(own / _ITEMS, use_threads=False)[ITEM_ID])
    return InteractionLog.open(own, items)
