"""A shop: its catalogue, what molar has made of it, and everything that can be asked of it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from molar.base import plain_errors
from molar.clustering import Cluster
from molar.events import Events
from molar.experiments import Experiments
from molar.exporting import Exporting
from molar.making import Making
from molar.privacy import Privacy
from molar.serving import Serving
from molar.tuning import SettingsTuning
from molar.updating import Updating
from molar_retrieval.binding import DEFAULT_NAME, workspace_for
from molar_retrieval.errors import SettingsError


class Shop(Making, SettingsTuning, Updating, Serving, Exporting):
    """A catalogue and its workspace.

    Args:
        catalogue: The folder with items, photos and log, or its items file; None: that of the workspace.
        workspace: The folder with all that molar makes of it.
        settings_file: Settings; None: ``molar.toml`` beside the workspace, if there is one.
        display: Makes the progress display of a long step; None: the one that suits a terminal or a notebook.
    """

    @property
    def events(self) -> Events:
        """What people and the catalogue did: the event log of the workspace."""
        return Events(self)

    @property
    def experiments(self) -> Experiments:
        """Experiments with the shop's people."""
        return Experiments(self)

    @property
    def cluster(self) -> Cluster:
        """Several machines for work that one would be long at."""
        return Cluster(self)

    @property
    def privacy(self) -> Privacy:
        """Where a person lies, and what is stored on them."""
        return Privacy(self)

    def move(self, workspace: str | Path | None = None, *, catalogue: str | Path | None = None) -> Self:
        """Move the workspace, or say where its catalogue is now; nothing in it is made anew.

        Args:
            workspace: Where it goes, a new folder; None: it stays where it is.
            catalogue: Where its catalogue is now; None: where it was.

        Returns:
            The shop in its new place; this one is where nothing is any more.

        Raises:
            SettingsError: If neither is named.
            DataError: If something is there already, there is no catalogue, or another process writes.
            MissingArtefactError: If nothing was made yet.
        """
        from molar_retrieval.moving import move_catalogue, move_workspace

        if workspace is None and catalogue is None:
            raise SettingsError("nothing is to be moved", "name a new folder of the workspace, or its catalogue's")
        place = self.opened()
        folder = self.catalogue if catalogue is None else move_catalogue(place, Path(catalogue))
        if workspace is not None:
            place = move_workspace(place, Path(workspace))
        return replace(self, catalogue=folder, workspace=place.root)

    @classmethod
    def from_tables(
        cls,
        items: Any,
        interactions: Any = None,
        *,
        users: Any = None,
        images: str | Path | None = None,
        columns: Mapping[str, Mapping[str, str]] | None = None,
        folder: str | Path = "molar-shop",
    ) -> Self:
        """A shop from tables in memory or files, written as a catalogue folder.

        The same call again finds its work done; changed tables replace the former ones, and the next
        :meth:`embed` encodes only what has changed.

        Args:
            items: One row per item: ``item_id`` and whatever is known of it. A pandas, polars or pyarrow table, a list
                of dictionaries, a dictionary of columns, or a Parquet, CSV or JSONL file.
            interactions: One row per purchase, view …: ``user_id``, ``item_id``, ``timestamp``.
            users: One row per user: ``user_id`` and attributes for rules and segments.
            images: Folder of the photos, named ``<item_id>.jpg`` or as the items' column ``image`` says.
            columns: What the columns are called where they are not called as above, by table:
                ``{"items": {"item_id": "sku"}, "interactions": {"user_id": "customer"}}``.
            folder: Where the catalogue and the workspace go.

        Raises:
            DataError: If the folder holds something else, or a table is none.
        """
        from molar.tables import INTERACTIONS, ITEMS, USERS, write_catalogue

        root = Path(folder)
        tables = {ITEMS: items, INTERACTIONS: interactions, USERS: users}
        write_catalogue(root / "catalog", tables, images, columns)
        return cls(root / "catalog", root / DEFAULT_NAME)


@plain_errors
def open_shop(
    catalogue: str | Path, *, workspace: str | Path | None = None, settings_file: str | Path | None = None
) -> Shop:
    """A shop by the folder of its catalogue.

    Args:
        catalogue: Folder with ``items.parquet`` (or ``.csv``, ``.jsonl``), photos and log; or that items file.
        workspace: Where all that molar makes goes; None: ``.molar`` beside the catalogue, or ``.molar-NAME`` where
            another catalogue has that.
        settings_file: Settings; None: ``molar.toml`` beside the workspace, if there is one.

    Raises:
        DataError: If there are no items, or another file is named.
    """
    from molar_retrieval.catalog.resolve import items_source
    from molar_retrieval.catalog.sources import folder_of

    folder = folder_of(Path(catalogue))
    items_source(folder)
    place = workspace_for(folder, folder.resolve().parent) if workspace is None else Path(workspace)
    return Shop(folder, place, None if settings_file is None else Path(settings_file))
