"""What an alignment was made from, kept with it: the items by their ids and the log, which later versions replace.

Rows of items mean places in one catalogue. A later alignment is derived from a former one by the ids, and counts only
what the histories of users have changed since; see :mod:`molar_retrieval.alignment.derive`.
"""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.alignment.user_encoder import FILE
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import LOG_FILE, USERS_FILE, Interactions
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.files import MANIFEST, link_or_copy

_FOLDER, _ITEMS, _TRAINED = "seen", "items.parquet", "trained"


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


def kept(version: Path) -> Interactions | None:
    """The log that an alignment has seen, with the ids of its items; None: an earlier version of molar made it."""
    own = version / _FOLDER
    if not own.is_dir():
        return None
    return Interactions.open(own, items(version))


def items(version: Path) -> IdMap:
    """The items that it knows, by their ids, where it has :func:`kept` its log."""
    return IdMap(pq.read_table(version / _FOLDER / _ITEMS, use_threads=False)[ITEM_ID])


def keep_trained(former: Path, version: Path) -> None:
    """Put an alignment as training left it into the folder of the first one that is derived from it."""
    own = version / _TRAINED
    own.mkdir()
    for name in (MANIFEST, FILE):
        link_or_copy(former / name, own / name)


def trained(version: Path) -> Path | None:
    """The alignment of the same data that validation has not been counted into: itself, or what is kept with it.

    None: it was derived for other data than it was trained on.
    """
    if (version / _TRAINED).is_dir():
        return version / _TRAINED
    return None if "derived" in Manifest.read(version).facts else version
