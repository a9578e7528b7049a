"""A key more for the pseudonyms of a workspace, or the first one: every name in it is hashed with it, in place.

Everything is written anew beside what is there, then ``rotation/switching.json`` is written, then one takes the place
of the other. Killed before, the workspace is what it was; killed later, it is neither, says so to whoever opens it, and
the same command ends it. A key is in its file before any name is made of it.

All that names people in a workspace, written beside it under other names, and put in its place.

:class:`Renamed` writes into a folder of its own, and nothing else changes. What it has written takes the place of the
former files one by one (:func:`put_in_place`); killed in between, the same again ends it.
"""

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_indexes.generations import KIND as GENERATIONS
from molar_indexes.generations import USERS
from molar_indexes.server.config import ServerConfig
from molar_retrieval.columns import USER_ID
from molar_retrieval.data import event_store
from molar_retrieval.data.event_store import FILE as EVENTS_FILE
from molar_retrieval.data.event_store import KIND as EVENTS
from molar_retrieval.data.event_store import SEALED, has_log, write_lock
from molar_retrieval.data.interactions import USERS_FILE
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.experiments.store import FILE as EXPERIMENTS_FILE
from molar_retrieval.experiments.store import KIND as EXPERIMENTS
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.key_rotation import (
    Rename,
    Renaming,
    put_into,
    rename_database,
    rename_parquet,
    without_journal,
)
from molar_retrieval.privacy.pseudonymisation import original_ids
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, new_key, outside, read_keys, record, write_keys
from molar_retrieval.privacy.suppression import SuppressionList, add_names
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import artefacts, fingerprint
from molar_retrieval.workspace.activity_log import work_done
from molar_retrieval.workspace.artefacts import MAKERS, SWITCHING, Manifest, Workspace
from molar_retrieval.workspace.config_files import how_to_name, trusted_file
from molar_retrieval.workspace.files import (
    MANIFEST,
    OWNER,
    exclusive,
    link_or_copy,
    lock_beside,
    require_space,
    sync_file,
    sync_folder,
    write_atomically,
)
from molar_retrieval.workspace.settings import IndexSettings, PrivacySettings

PEOPLE = "people"
"""The fact of a manifest that is a digest of names."""
_SPLITS, _SCORES = "evaluation/splits/*/*.parquet", "evaluation/runs/*/scores/**/*.parquet"
_GOES = ("serving/answers.sqlite*", "events/refused*.jsonl", "generations/*.partial")
"""What is kept for a while: answers of the server, what was refused, work that was killed. It is not written anew."""
_FIRST = "\0"  # begins the id of what was bought, with order, person and item
_SERVER = "server.json"
_KINDS = ("update", "push", *MAKERS, EXPERIMENTS, EVENTS)
_PATIENCE = 5.0  # seconds for who reads the event log


@dataclass
class RenamedFiles:
    """What was written, as paths below the workspace, and names in the folder where it waits.

    Attributes:
        instead: Files, by the files that they replace.
        into: Databases, by those that are to hold the same.
        amend: Files with another digest, by the folder of the version that they are in.
        goes: Files and folders that are removed.
        names: How many people the live interactions name.
    """

    instead: dict[str, str] = field(default_factory=dict)
    into: dict[str, str] = field(default_factory=dict)
    amend: dict[str, list[str]] = field(default_factory=dict)
    goes: list[str] = field(default_factory=list)
    names: int = 0


class Renamed:
    """Writes a workspace's files anew under other names into ``folder``; nobody else writes there meanwhile."""

    def __init__(self, root: Path, folder: Path, renaming: Renaming) -> None:
        self._root, self._folder, self._renaming = root, folder, renaming
        self._linked: dict[tuple[int, int], Path] = {}  # one file may be in several places
        self._digests: dict[str, str] = {}  # of the names of a log
        self.files = RenamedFiles()

    def write(self) -> RenamedFiles:
        """Write all of them; may take as much room as they do."""
        renaming, root = self._renaming, self._root
        for path in sorted(root.rglob(USERS_FILE)):
            self._of_log(path)
        for path in sorted(root.glob(f"generations/*/{USERS}")):
            if path.parent.suffix != ".partial":
                self._of_generation(path)
        for path in root.glob(_SPLITS):
            self._parquet(path, {USER_ID: renaming.person})
        for path in root.glob("evaluation/splits/*/split.json"):
            self._of_split(path)
        for path in root.glob(_SCORES):
            self._parquet(path, {"user": renaming.person})
        self._of_events()
        self._of_experiments()
        self.files.goes = [str(path.relative_to(root)) for one in _GOES for path in root.glob(one)]
        sync_folder(self._folder)
        return self.files

    def _of_log(self, path: Path) -> None:
        """The users of a log, as prepared, or as an alignment or an evaluation keeps it."""
        renamed = self._parquet(path, {USER_ID: self._renaming.person})
        own = path.parent / MANIFEST
        version = path.parent if own.exists() else path.parent.parent
        self._in_version(version, path)
        if own.exists() and PEOPLE in (manifest := Manifest.read(path.parent)).facts:
            users = IdMap(pq.read_table(renamed, use_threads=False)[USER_ID])
            self._digests[manifest.facts[PEOPLE]] = users.digest
            self._manifest(path.parent, manifest, users.digest)
            if path.parent.parent.parent == self._root:
                self.files.names = max(self.files.names, len(users))

    def _of_generation(self, path: Path) -> None:
        renamed = self._waiting(path)
        if (there := self._same(path)) is not None:
            link_or_copy(there, renamed)
        else:
            rename_database(path, renamed, {"users": {USER_ID: self._renaming.person}})
        self._instead(path, renamed)
        self._in_version(path.parent, path)
        manifest = Manifest.read(path.parent)
        if (known := manifest.facts.get(PEOPLE)) is not None:
            if known not in self._digests:  # of a log that is not there any more
                self._digests[known] = _digest(renamed)
            self._manifest(path.parent, manifest, self._digests[known])

    def _of_split(self, path: Path) -> None:
        told = json.loads(path.read_text("utf-8"))
        told[PEOPLE] = self._digests.get(told.get(PEOPLE))  # of another log: it is written anew when it is asked for
        self._text(path, json.dumps(told, indent=1, ensure_ascii=False))

    def _of_events(self) -> None:
        folder, renaming = self._root / EVENTS, self._renaming
        columns = {"user_id": renaming.user, "session_id": renaming.session, "event_id": renaming.event_id}
        path = folder / EVENTS_FILE
        if not path.exists():
            return
        with closing(sqlite3.connect(path)) as log:
            if found := event_store.damage(log, folder):
                raise DataError(f"the event log is damaged: {found[0]}", event_store.REMEDY)
        sealed = (folder / SEALED).glob("*.parquet")
        digests = {one.name: fingerprint.of_file(self._parquet(one, columns)) for one in sealed}
        bought = {"event_id": _Bought(renaming, _of_sessions(path, folder / SEALED))}
        renamed = self._database(path, {"events": columns, "ids": bought})
        with closing(sqlite3.connect(renamed, isolation_level=None)) as log:
            log.execute("BEGIN")
            event_store.rebuild(log, digests)
            log.execute("COMMIT")
        sync_file(renamed)

    def _of_experiments(self) -> None:
        path = self._root / EXPERIMENTS / EXPERIMENTS_FILE
        if path.exists():
            units = {"unit": self._renaming.person}
            self._database(path, {"units": units, "lists": units})

    def _parquet(self, path: Path, columns: Mapping[str, Rename]) -> Path:
        renamed = self._waiting(path)
        if (there := self._same(path)) is not None:
            link_or_copy(there, renamed)
        else:
            rename_parquet(path, renamed, columns)
        self._instead(path, renamed)
        return renamed

    def _database(self, path: Path, columns: Mapping[str, Mapping[str, Rename]]) -> Path:
        renamed = self._waiting(path)
        rename_database(path, renamed, columns)
        self.files.into[self._relative(path)] = renamed.name
        return renamed

    def _manifest(self, folder: Path, manifest: Manifest, people: str) -> None:
        facts = {**manifest.facts, PEOPLE: people}
        self._text(folder / MANIFEST, replace(manifest, facts=facts).text)
        self._in_version(folder, folder / MANIFEST)

    def _text(self, path: Path, text: str) -> None:
        renamed = self._waiting(path)
        write_atomically(renamed, text, path.stat().st_mode & 0o777)
        self._instead(path, renamed)

    def _same(self, path: Path) -> Path | None:
        """What was written of the same file, which is linked to another place; None: nothing yet."""
        status = path.stat()
        return self._linked.get((status.st_dev, status.st_ino))

    def _instead(self, path: Path, renamed: Path) -> None:
        status = path.stat()
        self._linked.setdefault((status.st_dev, status.st_ino), renamed)
        self.files.instead[self._relative(path)] = renamed.name

    def _in_version(self, folder: Path, path: Path) -> None:
        if (folder / artefacts.INVENTORY).exists():
            names = self.files.amend.setdefault(self._relative(folder), [])
            names.append(path.relative_to(folder).as_posix())

    def _waiting(self, path: Path) -> Path:
        """A new name in the folder where everything waits."""
        number = len(self.files.instead) + len(self.files.into)
        return self._folder / f"{number:06d}{path.suffix}"

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


class _Bought:
    """The id of what was bought, and of an order line, under other names; other ids are what they are."""

    def __init__(self, renaming: Renaming, sessions: frozenset[str]) -> None:
        self._renaming, self._sessions = renaming, sessions

    def __call__(self, event_id: str) -> str:
        if not event_id.startswith(_FIRST):
            return self._renaming.event_id(event_id)
        first, order, person, item = event_id.split(_FIRST)
        renamed = self._renaming.session if person in self._sessions else self._renaming.user
        return _FIRST.join([first, order, renamed(person), item])


def _of_sessions(path: Path, sealed: Path) -> frozenset[str]:
    """Sessions that no user is called like, of whom nothing but the session is known."""
    with closing(sqlite3.connect(path)) as log:
        users = {one for (one,) in log.execute("SELECT DISTINCT user_id FROM events")}
        sessions = {one for (one,) in log.execute("SELECT DISTINCT session_id FROM events WHERE user_id IS NULL")}
    for file in sealed.glob("*.parquet"):
        table = pq.read_table(file, columns=["user_id", "session_id"], use_threads=False)
        users |= set(table["user_id"].unique().to_pylist())
        sessions |= set(table["session_id"].filter(pc.is_null(table["user_id"])).unique().to_pylist())
    return frozenset(one for one in sessions - users if one is not None)


def _digest(path: Path) -> str:
    with closing(sqlite3.connect(path)) as users:
        return IdMap([key for (key,) in users.execute("SELECT user_id FROM users ORDER BY row")]).digest


def put_in_place(root: Path, folder: Path, files: RenamedFiles) -> None:
    """Replace the files of a workspace by those that wait in ``folder``, and remove what goes.

    What is not there any more has been put in its place before. A DataError says that the record names a file outside
    of the workspace.
    """
    own, waiting = root.resolve(), folder.resolve()
    named = [own / one for one in (*files.instead, *files.amend, *files.into, *files.goes)]
    named += [waiting / one for one in (*files.instead.values(), *files.into.values())]
    for path in named:
        if not any(path.resolve().is_relative_to(place) and path.resolve() != place for place in (own, waiting)):
            raise DataError(f"the record of a rotation names {path}, outside of {root}", "restore it from a backup")
    for target, name in files.instead.items():
        if (folder / name).exists():
            (folder / name).replace(root / target)
            sync_folder((root / target).parent)
    for version, names in files.amend.items():
        artefacts.amend_inventory(root / version, {name: root / version / name for name in names}, {})
    for target, name in files.into.items():
        put_into(folder / name, root / target)
    for one in files.goes:
        if (root / one).is_dir():
            shutil.rmtree(root / one)
        else:
            (root / one).unlink(missing_ok=True)


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
    from molar_indexes.server.client import connected
    from molar_indexes.server.collections import live, remove_others
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
