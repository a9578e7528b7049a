"""What a shop calls the people whom a workspace knows by pseudonyms, read from the catalogue and kept nowhere."""

from collections.abc import Iterator
from pathlib import Path

from molar_retrieval.catalog.sources import find_table
from molar_retrieval.catalog.spec import CatalogueSettings
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.interactions.columns import log_columns, user_column
from molar_retrieval.interactions.pseudonyms import Pseudonymiser
from molar_retrieval.workspace import Workspace

_BATCH = 262_144


def given_ids(workspace: Workspace) -> dict[str, str]:
    """The ids of all people in the files of a workspace's catalogue, by key.

    Empty where the workspace names people as the shop does, as there is nothing to be turned back.

    Raises:
        DataError: If a file of the catalogue cannot be read.
        StaleArtefactError: If the workspace does not say which catalogue it is of.
    """
    names = Pseudonymiser.of(workspace.root)
    if not names.keys:
        return {}
    seen: dict[str, None] = {}
    for column, source in files_of_people(workspace.catalogue):
        for rows in source.batches([column], _BATCH, None, [column]):
            seen |= dict.fromkeys(rows.batch[column].unique().drop_null().to_pylist())
    return {names.key(one): one for one in seen}


def files_of_people(folder: Path) -> Iterator[tuple[str, TableSource]]:
    """Files of a catalogue that name people, each with the column that does."""
    settings = CatalogueSettings.read(folder)
    if (log := find_table(folder, "interactions", settings)) is not None:
        yield log_columns(settings.interactions, log, ITEM_ID).user_id, log
    if (users := find_table(folder, "users", settings)) is not None:
        yield user_column(settings.users, users), users
