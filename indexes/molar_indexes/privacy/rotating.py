"""A key more for the pseudonyms of a workspace, or the first one: every name in it is hashed with it, in place.

Everything is written anew beside what is there (:mod:`molar_indexes.privacy.renamed`), then ``rotation/switching.json``
is written, then one takes the place of the other. Killed before, the workspace is what it was; killed later, it is
neither, says so to whoever opens it, and the same command ends it. A key is in its file before any name is made of it.
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from molar_indexes.generations import KIND as GENERATIONS
from molar_indexes.privacy.renamed import Renamed, RenamedFiles, put_in_place
from molar_indexes.server.config import ServerConfig
from molar_retrieval.data.event_store import FILE as EVENTS_FILE
from molar_retrieval.data.event_store import KIND as EVENTS
from molar_retrieval.data.event_store import has_log, write_lock
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.experiments.store import KIND as EXPERIMENTS
from molar_retrieval.privacy.key_rotation import Renaming, without_journal
from molar_retrieval.privacy.pseudonymisation import original_ids
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, new_key, outside, read_keys, record, write_keys
from molar_retrieval.privacy.suppression import SuppressionList, add_names
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.activity_log import work_done
from molar_retrieval.workspace.artefacts import MAKERS, SWITCHING, Workspace
from molar_retrieval.workspace.config_files import how_to_name, trusted_file
from molar_retrieval.workspace.files import OWNER, exclusive, lock_beside, require_space, sync_folder, write_atomically
from molar_retrieval.workspace.settings import IndexSettings, PrivacySettings

_SERVER = "server.json"
_KINDS = ("update", "push", *MAKERS, EXPERIMENTS, EVENTS)
_PATIENCE = 5.0  # seconds for who reads the event log


@dataclass(frozen=True)
class RotationReport:
    """What a rotation did.

    Attributes:
        keys: How many keys the pseudonyms are made with now.
        key_file: Where these are.
        people: How many people the interactions name.
        files: Files that were written anew.
        ended: Whether it went on with one that was interrupted, instead of beginning another.
        collections: Collections of a server that were removed, as they had former names.
        seconds: What it took.
    """

    keys: int
    key_file: Path
    people: int
    files: int
    ended: bool
    collections: tuple[str, ...]
    seconds: float

    @property
    def in_words(self) -> list[str]:
        """Sentences for whoever asked for it."""
        ended = "an interrupted rotation was ended: " if self.ended else ""
        found = [
            f"{ended}{self.people:,} people are named by pseudonyms, number of keys: {self.keys};"
            f" {self.files} files were written anew in {self.seconds:.1f} s.",
            f"All keys are in {self.key_file}: without them nobody is found again.",
        ]
        return [*found, *(f"removed from the server: {one}" for one in self.collections)]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self) | {"key_file": str(self.key_file), "collections": list(self.collections)}


def rotate(
    workspace: Workspace,
    privacy: PrivacySettings,
    index: IndexSettings,
    *folders: Path,
    progress: Progress = SILENT,
) -> RotationReport:
    """Hash the names of all people in a workspace with one key more; where one was interrupted, end that instead.

    Where the file of keys has some that the workspace does not know yet, as of another workspace with the same file,
    these are taken, and none is made.

    Args:
        workspace: The workspace.
        privacy: Say where the keys of a workspace are that has none yet.
        index: Say which server has people of it.
        folders: Where the keys must not lie, beside the workspace.
        progress: Told of the files.

    Raises:
        DataError: If something answers from the workspace or writes there, which it names; or the keys cannot be read.
        SettingsError: If nothing says where the keys are to be, or it is beside what they protect.
        DiskError: If there is no room to write everything a second time.
        ServerError: If a server fails; the same again goes on there.
    """
    began, folder = time.perf_counter(), (workspace.root / SWITCHING).parent
    switching, at_server = workspace.root / SWITCHING, folder / _SERVER
    ended = switching.exists() or at_server.exists()
    with _alone(workspace):
        if not ended:
            _written(workspace, privacy, folders, folder, progress)
        if switching.exists():
            _switch(workspace, folder, _key_file(privacy, workspace.root, *folders))
    told = json.loads(at_server.read_text("utf-8"))
    if SuppressionList.of(workspace.root).people and workspace.catalogue.is_dir():
        add_names(workspace.root, original_ids(workspace).values())
    collections = _on_server(workspace, index, progress)
    shutil.rmtree(folder)
    sync_folder(workspace.root)
    about = len(told["keys"]), Path(told["key_file"]), told["files"]["names"], len(told["files"]["instead"])
    return RotationReport(*about, ended, collections, round(time.perf_counter() - began, 2))


def _written(
    workspace: Workspace, privacy: PrivacySettings, folders: tuple[Path, ...], folder: Path, progress: Progress
) -> None:
    """Write everything anew in ``folder``, and last what is to be put where."""
    root = workspace.root
    now, path = Pseudonymiser.of(root), _key_file(privacy, root, *folders)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed before anything was changed
    with lock_beside(path):
        known = read_keys(path) if path.exists() else ()
        if len(known) == len(now.keys):
            known = (*known, new_key())
            write_keys(path, known)
    keys = Pseudonymiser(known)
    folder.mkdir(mode=0o700)
    progress.start("people under other names", None)
    sizes = sum(one.stat().st_size for kind in _NAMED for one in root.glob(kind))
    require_space(folder, 2 * sizes, "writing everything that names people a second time takes")
    files = Renamed(root, folder, Renaming(now, known[len(now.keys) :])).write()
    progress.finish()
    told = {"keys": list(keys.marks), "key_file": str(path), "files": asdict(files)}
    write_atomically(root / SWITCHING, json.dumps(told), OWNER)


def _key_file(privacy: PrivacySettings, *folders: Path) -> Path:
    """Where the keys are, or are to be: by environment or user configuration, not by what the workspace says."""
    path = privacy.key_file or trusted_file("privacy", "key_file")
    if path is None:
        remedy = f"{how_to_name('privacy', 'key_file')}: a file outside workspace and catalogue"
        raise SettingsError("nothing says where the key of the pseudonyms is to be kept", remedy)
    return outside(path.expanduser(), *folders)


_NAMED = ("generations/*/users.sqlite", "events/log.sqlite", "events/sealed/*", "evaluation/splits/*/*")
"""What is large of what names people."""


def _switch(workspace: Workspace, folder: Path, file: Path) -> None:
    """Put in its place what was written; whatever was done before is not done again."""
    root, path = workspace.root, workspace.root / SWITCHING
    told = json.loads(path.read_text("utf-8"))
    marks = told["keys"]
    keys = Pseudonymiser(read_keys(file)[: len(marks)])
    if list(keys.marks) != marks:
        named = ", ".join(keys.marks) or "none"
        raise DataError(f"{file} has the keys {named}; {path} wants {', '.join(marks)}", "put the former file there")
    put_in_place(root, folder, RenamedFiles(**told["files"]))
    record(root, keys, file)
    path.replace(folder / _SERVER)
    sync_folder(folder)


def _on_server(workspace: Workspace, index: IndexSettings, progress: Progress) -> tuple[str, ...]:
    """Publish the people anew on the server that has them, and remove all collections with former names."""
    server = ServerConfig.of(index)
    if server is None or server.users != "server" or workspace[GENERATIONS].current is None:
        return ()
    from molar_indexes.server.connect import connected
    from molar_indexes.server.published import live, remove_others
    from molar_indexes.server.push import REQUEST_SECONDS, push

    with connected(server.patient(REQUEST_SECONDS)) as connection:
        there = live(connection, server.collection).metadata.generation
    push(workspace, index, generation=there, progress=progress)
    with connected(server.patient(REQUEST_SECONDS)) as connection:
        return tuple(remove_others(connection, server.people))


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    """Keep everybody out who writes, and refuse where somebody answers, reads or writes already."""
    root = workspace.root
    for one in work_done(workspace):
        if one.state == "running":
            raise DataError(f"`molar {one.what}` is at work in {root} since {one.begun}", "wait until it is done")
    with ExitStack() as held:
        for kind in _KINDS:
            if (root / kind).is_dir():
                held.enter_context(workspace.lock(kind))
        for folder in workspace[GENERATIONS].versions():
            if not held.enter_context(exclusive(folder)):
                words = f"somebody answers from generation {folder.name} of {root}: a server, or a program that has it"
                raise DataError(f"{words} open", "stop it, then run again")
        if has_log(workspace):
            held.enter_context(write_lock(root / EVENTS))
            without_journal(root / EVENTS / EVENTS_FILE, _PATIENCE)
        yield
