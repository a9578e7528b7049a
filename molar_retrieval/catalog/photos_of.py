"""Where the photo of an item lies, by its id."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.catalog.catalogue import ITEMS_FILE, Catalogue
from molar_retrieval.columns import IMAGE, ITEM_ID
from molar_retrieval.workspace.artefacts import Workspace


def photos_of(workspace: Workspace) -> Callable[[str], Path | None]:
    """From an item's id to the file of its photo, or None; the catalogue is read at the first call."""

    @cache
    def paths() -> dict[str, Path]:
        version = workspace["catalogue"].current
        if version is None:
            return {}
        folder = Catalogue.open(version).folder
        return {item_id: folder / path for item_id, path in _relative(version)}

    return lambda item_id: paths().get(item_id)


def photo_paths(workspace: Workspace) -> list[str]:
    """The paths of all photos that the live catalogue names, relative to its folder; none where there is none."""
    version = workspace["catalogue"].current
    return [] if version is None else [path for _, path in _relative(version)]


def _relative(version: Path) -> list[tuple[str, str]]:
    table = pq.read_table(version / ITEMS_FILE, columns=[ITEM_ID, IMAGE])
    known = table.filter(pc.field(IMAGE).is_valid())
    return list(zip(known[ITEM_ID].to_pylist(), known[IMAGE].to_pylist(), strict=True))
