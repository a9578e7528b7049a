"""What a shop calls the people whom a workspace knows by pseudonyms, read from the catalogue and kept nowhere."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from molar_retrieval.catalog.sources import find_table
from molar_retrieval.catalog.spec import CatalogueSettings
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.interactions.columns import log_columns, user_column
from molar_retrieval.interactions.pseudonyms import Pseudonymiser
from molar_retrieval.workspace import Workspace

_BATCH = 262_144


def given_ids(workspace: Workspace) -> dict[str, str]:
    """The ids of all people in the interactions file and the users file of a workspace's catalogue, by key.

    Empty where the workspace names people as the shop does, as there is nothing to be turned back.

    Raises:
        DataError: If a file of the catalogue cannot be read.
        StaleArtefactError: If the workspace does not say which catalogue it is of.
    """
    names = Pseudonymiser.of(workspace.root)
    if not names.keys:
        return {}
    seen = dict.fromkeys(one for ids in _ids(workspace.catalogue) for one in ids.to_pylist() if one is not None)
    return {names.key(one): one for one in seen}


def _ids(folder: Path) -> Iterator[pa.Array]:
    """The ids of people in the files of a catalogue, each once in a batch."""
    settings = CatalogueSettings.read(folder)
    log, users = find_table(folder, "interactions", settings), find_table(folder, "users")
    columns = [
        *([] if log is None else [(log, log_columns(settings.interactions, log, ITEM_ID).user_id)]),
        *([] if users is None else [(users, user_column(settings.users, users))]),
    ]
    for source, column in columns:
        for rows in source.batches([column], _BATCH, None, [column]):
            yield rows.batch[column].unique()
