"""The boundary of pseudonyms: a workspace gets them before its first user, and keeps the shop's own ids nowhere."""

from collections.abc import Iterator
from pathlib import Path

from molar_retrieval.columns import ITEM_ID
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.event_parsing import EVENT_TYPES, OF_ITEMS
from molar_retrieval.data.interaction_reader import log_columns, user_column
from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.schema import CatalogueConfig, find_table
from molar_retrieval.errors import DataError
from molar_retrieval.privacy.pseudonyms import FILE, Pseudonymiser, new_key, outside, read_keys, record, write_keys
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import lock_beside
from molar_retrieval.workspace.settings import PrivacySettings

_OF_PEOPLE = tuple(kind for kind in EVENT_TYPES if kind not in OF_ITEMS)


def ensure_pseudonyms(workspace: Workspace, settings: PrivacySettings, *folders: Path) -> None:
    """Have people named by pseudonyms from the first one on, where the settings say so; a file of keys is made.

    What a workspace has on record stays. Keys that are there already are used, all of them, so that several workspaces
    may share a file. ``folders`` are those beside the workspace in which the keys must not lie.
    A DataError if the workspace has people under the shop's ids, or the keys cannot be read or written; a
    SettingsError if they would lie beside what they protect.
    """
    if settings.ids == "plain" or settings.key_file is None or (workspace.root / FILE).exists():
        return
    if has_people(workspace):
        words = (
            f"people are named by the shop's ids in {workspace.root}, and the settings say privacy.ids = 'pseudonymous'"
        )
        raise DataError(words, "run `molar privacy rotate`, which turns these ids into pseudonyms")
    path = outside(settings.key_file.expanduser(), workspace.root, *folders)
    with lock_beside(path):
        if not path.exists():
            write_keys(path, (new_key(),))
        record(workspace.root, Pseudonymiser(read_keys(path)), path)


def has_people(workspace: Workspace) -> bool:
    """Whether a workspace stores anything of people."""
    if any(workspace[kind].versions() for kind in ("interactions", "generations")):
        return True
    with opened(workspace) as events:
        return events is not None and events.has_since(0, _OF_PEOPLE)


_BATCH = 262_144


def original_ids(workspace: Workspace) -> dict[str, str]:
    """The ids of all people in the files of a workspace's catalogue, by key.

    Empty where the workspace names people as the shop does, as there is nothing to be turned back. A DataError if a
    file of the catalogue cannot be read.
    """
    names = Pseudonymiser.of(workspace.root)
    if not names.keys:
        return {}
    seen: dict[str, None] = {}
    for column, source in files_of_people(workspace.catalogue):
        for rows in source.batches([column], _BATCH, None, [column]):
            seen |= dict.fromkeys(rows.batch[column].unique().drop_null().to_pylist())
    return {names.key(one): one for one in seen}


def files_of_people(folder: Path) -> Iterator[tuple[str, TableReader]]:
    """Files of a catalogue that name people, each with the column that does."""
    settings = CatalogueConfig.read(folder)
    if (log := find_table(folder, "interactions", settings)) is not None:
        yield log_columns(settings.interactions, log, ITEM_ID).user_id, log
    if (users := find_table(folder, "users", settings)) is not None:
        yield user_column(settings.users, users), users
