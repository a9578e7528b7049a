"""What an alignment was made from, kept with it: the items by their ids, and the log, which later versions replace.

Rows of items mean places in one catalogue. A later alignment is made from a former one by the ids; see
:mod:`molar_retrieval.models.refresh`.
"""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.columns import ITEM_ID
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import LOG_FILE, USERS_FILE, Interactions
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import link_or_copy

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


def rename(read: Workspace, version: Path) -> None:
    """Give the people of the kept log the names that they have in the live one, whose content is the same."""
    live, own = read["interactions"].require()[0] / USERS_FILE, version / _FOLDER / USERS_FILE
    if not own.exists() or live.samefile(own) or (content := live.read_bytes()) == own.read_bytes():
        return
    artefacts.amend_inventory(version, {}, {own.relative_to(version).as_posix(): content})
    anew = own.with_suffix(".renamed")
    anew.unlink(missing_ok=True)  # of a run that was killed
    link_or_copy(live, anew)
    anew.replace(own)


def kept_log(version: Path) -> Interactions | None:
    """The log that an alignment has seen, with the ids of its items; None: an earlier version of molar made it."""
    own = version / _FOLDER
    if not own.is_dir():
        return None
    return Interactions.open(own, kept_items(version))


def kept_items(version: Path) -> IdMap:
    """The items that it knows, by their ids, where it has :func:`kept_log` its log."""
    return IdMap(pq.read_table(version / _FOLDER / _ITEMS, use_threads=False)[ITEM_ID])
