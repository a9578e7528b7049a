"""How people are named in a workspace that is about to be written: as it is on record, else as the settings say."""

from pathlib import Path

from molar_retrieval.errors import DataError
from molar_retrieval.events.event import KINDS, OF_ITEMS
from molar_retrieval.events.snapshot import opened
from molar_retrieval.interactions.pseudonyms import (
    FILE,
    Pseudonymiser,
    new_key,
    outside,
    read_keys,
    record,
    write_keys,
)
from molar_retrieval.locks import lock_beside
from molar_retrieval.privacy_settings import PrivacySettings
from molar_retrieval.workspace import Workspace

_OF_PEOPLE = tuple(kind for kind in KINDS if kind not in OF_ITEMS)


def name_people(workspace: Workspace, settings: PrivacySettings, *folders: Path) -> None:
    """Have people named by pseudonyms from the first one on, where the settings say so; a file of keys is made.

    What a workspace has on record stays. Keys that are there already are used, all of them, so that several workspaces
    may share a file. ``folders`` are those beside the workspace in which the keys must not lie.

    Raises:
        DataError: If the workspace has people under the shop's ids, or the keys cannot be read or written.
        SettingsError: If the keys would lie beside what they protect.
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
