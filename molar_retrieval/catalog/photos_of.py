"""Where the photo of an item lies, by its id."""

from functools import cached_property
from pathlib import Path

from molar_retrieval.columns import IMAGE, ITEM_ID
from molar_retrieval.workspace import Workspace


class PhotosOf:
    """Finds photos; reads the catalogue's paths when it is first asked.

    Args:
        workspace: Whose catalogue has the photos.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def __call__(self, item_id: str) -> Path | None:
        """The file, or None where the item has none."""
        return self._paths.get(item_id)

    @cached_property
    def _paths(self) -> dict[str, Path]:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        from molar_retrieval.catalog.catalogue import ITEMS_FILE, Catalogue

        version = self._workspace["catalogue"].current
        if version is None:
            return {}
        table = pq.read_table(version / ITEMS_FILE, columns=[ITEM_ID, IMAGE])
        known, folder = table.filter(pc.field(IMAGE).is_valid()), Catalogue.open(version).folder
        ids, paths = known[ITEM_ID].to_pylist(), known[IMAGE].to_pylist()
        return {item_id: folder / path for item_id, path in zip(ids, paths, strict=True)}
