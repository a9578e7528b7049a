"""A shop: its catalogue, what molar has made of it, and everything that can be asked of it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from molar.base import Display, plain_errors, shown_by
from molar.choosing import server_of
from molar.clustering import Cluster
from molar.events import Events
from molar.experiments import Experiments
from molar.exporting import Exporting
from molar.making import Making
from molar.privacy import Privacy
from molar.serving import Serving
from molar.tuning import SettingsTuning
from molar.updating import Updating
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.activity_log import recorded
from molar_retrieval.workspace.artefacts import move_workspace
from molar_retrieval.workspace.discovery import DEFAULT_NAME, WorkspaceRecord, workspace_for

if TYPE_CHECKING:
    from molar_indexes.backup import Backup, Restored


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
        from molar_retrieval.data.schema import items_source

        if workspace is None and catalogue is None:
            raise SettingsError("nothing is to be moved", "name a new folder of the workspace, or its catalogue's")
        place = self.opened()
        folder = self.catalogue
        if catalogue is not None:
            items_source(Path(catalogue))
            folder = Path(catalogue).resolve()
            WorkspaceRecord.of(place.root, folder).write(place.root)
        if workspace is not None:
            place = move_workspace(place, Path(workspace))
        return replace(self, catalogue=folder, workspace=place.root)

    def backup(self, file: str | Path) -> "Backup":
        """Write the shop into one archive, while it answers and takes events; it appears when it is complete.

        It holds the catalogue with its photos, the event log, keys and audit log, experiments, the live index version
        and what the next update builds on, settings and rules. It has personal data and hashes of keys, and nobody but
        its owner can read it. :func:`molar.restore` makes a shop of it.

        Args:
            file: The archive; a former backup of this name is replaced.

        Raises:
            DataError: If something else has this name, a file changes all the time, or an artefact is damaged.
            MissingArtefactError: If nothing was made yet.
        """
        from molar_indexes.backup import write_backup

        place = self.opened()
        with recorded(place, "backup") as work, self.progress() as progress:
            found = write_backup(place, Path(file), settings=self.settings_file, progress=progress)
            work.outcome = f"{found.files:,} files of index version {found.generation}, events up to {found.events:,}"
        if server_of(self.workspace, self.settings_file) is None:
            return found
        words = (
            "what the Qdrant server holds is not in it: after restoring, `molar index push` sends it again; to keep the"
            " server's own collections, take snapshots there (`POST /collections/NAME/snapshots`)"
        )
        return replace(found, notes=(*found.notes, words))

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
def restore(file: str | Path, folder: str | Path, *, display: Display | None = None) -> "Restored":
    """Make a shop of an archive that :meth:`Shop.backup` wrote, in a new folder.

    Everything in the archive is checked before the folder appears.

    Args:
        file: The archive.
        folder: Where the shop goes: a folder that is not there, or empty.
        display: Makes the progress display; None: the one that suits a terminal or a notebook.

    Returns:
        What was restored; ``molar.open(restored.catalogue)`` is the shop.

    Raises:
        DataError: If the folder is not empty, or the archive is damaged or holds what no backup holds.
        StaleArtefactError: If a later version of molar made it.
    """
    from molar_indexes.backup import restore_backup

    with shown_by(display) as progress:
        return restore_backup(Path(file), Path(folder), progress)


@plain_errors
def open_shop(
    catalogue: str | Path, *, workspace: str | Path | None = None, settings_file: str | Path | None = None
) -> Shop:
    """A shop by the folder of its catalogue.

    Args:
        catalogue: Folder with ``items.parquet`` (or ``.csv``, ``.jsonl``), photos and log; or that items file.
        workspace: Where all that molar makes goes; None: ``.molar`` beside the catalogue.
        settings_file: Settings; None: ``molar.toml`` beside the workspace, if there is one.

    Raises:
        DataError: If there are no items, or another file is named.
    """
    from molar_retrieval.data.schema import folder_of, items_source

    folder = folder_of(Path(catalogue))
    items_source(folder)
    place = workspace_for(folder, folder.resolve().parent) if workspace is None else Path(workspace)
    return Shop(folder, place, None if settings_file is None else Path(settings_file))
