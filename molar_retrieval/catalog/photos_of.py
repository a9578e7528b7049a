"""Where the photo of an item lies, by its id."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from molar_retrieval.columns import IMAGE, ITEM_ID
from molar_retrieval.workspace import Workspace


def photos_of(workspace: Workspace) -> Callable[[str], Path | None]:
    """From an item's id to the file of its photo, or None; the catalogue is read at the first call."""

    @cache
    def paths() -> dict[str, Path]:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        from molar_retrieval.catalog.catalogue import ITEMS_FILE, Catalogue

        version = workspace["catalogue"].current
        if version is None:
            return {}
        table = pq.read_table(version / ITEMS_FILE, columns=[ITEM_ID, IMAGE])
        known, folder = table.filter(pc.field(IMAGE).is_valid()), Catalogue.open(version).folder
        return {i: folder / p for i, p in zip(known[ITEM_ID].to_pylist(), known[IMAGE].to_pylist(), strict=True)}

    return lambda item_id: paths().get(item_id)
