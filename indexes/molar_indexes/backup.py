"""Backups: a shop in one archive, taken while it answers, and a shop made of one elsewhere.

The archive is a gzip-compressed tar file of plain files::

    backup.json          what it is: format, version of molar, when, index version, number and size of the files
    catalog/…            the tables, ``catalog.toml`` and the photos
    .molar/…             event log, keys and audit log, experiments, the live version of every artefact
    molar.toml           settings, rules.toml and reasons.toml likewise
    files.json           size, digest and time of every file above

The index version is held as readers hold it, so publishing does not remove it meanwhile; databases are copied by
SQLite's backup API. What is read first is what later parts build on: the index version before the event log, so that
no index version knows of an event that the log lacks, and the list of suppressed people last, so that nobody is
forgotten in the log and missing on the list.

Nothing of an archive is believed before it was looked at: it may come from anybody. Names of files, their number and
sizes are checked as they come, digests before anything is where a command would find it, and links, devices and
absolute paths do not exist here.
"""

import gzip
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from molar_indexes.generations import KIND as GENERATIONS
from molar_indexes.generations import open_generation
from molar_retrieval import __version__
from molar_retrieval.data.catalogue import photo_paths
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.event_store import FILE as LOG
from molar_retrieval.data.event_store import KIND as EVENTS
from molar_retrieval.data.event_store import SEALED
from molar_retrieval.data.images import EXTENSIONS
from molar_retrieval.data.schema import FILE_NAME, CatalogueConfig, Stem, find_file
from molar_retrieval.errors import DataError, FullDiskError, MolarError, StaleArtefactError, shown
from molar_retrieval.experiments.store import FILE as EXPERIMENTS_FILE
from molar_retrieval.experiments.store import KIND as EXPERIMENTS
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.ledger import FILE as LEDGER
from molar_retrieval.privacy.pseudonyms import FILE as PSEUDONYMS
from molar_retrieval.privacy.suppression import FILE as SUPPRESSED
from molar_retrieval.privacy.suppression import NOBODY, SuppressionList
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import MAKERS, OTHERS, Workspace, checked
from molar_retrieval.workspace.config_files import trusted_file
from molar_retrieval.workspace.discovery import DEFAULT_NAME, WorkspaceRecord, file_beside
from molar_retrieval.workspace.files import (
    OWNER,
    SPARE,
    disk_error,
    free_space,
    lock_beside,
    read_lock,
    require_space,
    sync_folder,
    sync_tree,
)
from molar_retrieval.workspace.fingerprint import filled, pages

FORMAT = 1
HEAD, INDEX, CATALOG = "backup.json", "files.json", "catalog"
SETTINGS = ("molar.toml", "rules.toml", "reasons.toml")
KINDS = (*MAKERS, *OTHERS)
FOLDERS = (EVENTS, EXPERIMENTS, "serving", "finetuned", "privacy", "work", "findings")
"""Folders of a workspace that are in a backup, beside the artefacts."""
FILES = (PSEUDONYMS, LEDGER, SUPPRESSED)
LEFT_OUT = (
    "cluster",
    "push",
    "evaluation",
    "update",
    "check",
    "check.html",
    "map",
    "rotation",
    "workspace.json",
)
"""What is made again, names other machines, or is written anew where a backup is restored."""
_TRANSIENT = re.compile(r"\..*|.*\.(lock|running|partial|trash)|lock|answers\.sqlite.*|experiments\.sqlite.*")
_HELD = re.compile(r"\.manifest-.*")
"""Former manifests of a version, which stay while somebody reads them."""
_ATTEMPTS = 3
_BLOCK, _PIECE = tarfile.BLOCKSIZE, 1 << 18
_LONGEST_NAME, _LONGEST_PART, _MOST_PARTS = 4_096, 255, 64
_LARGEST_HEAD, _OF_FILE = 1 << 16, 5_000  # bytes
_TAIL = 1 << 20  # bytes of zeros that may follow
_ROW_OF_INDEX = 3
_MOST = 1 << 62


@dataclass(frozen=True)
class Backup:
    """What an archive holds.

    Attributes:
        file: Where it is.
        created: When it was begun, in UTC (ISO 8601).
        molar: The version of molar that made it.
        generation: The live index version; None: there was none.
        catalogue: The live version of the catalogue as it was read; None: none was.
        events: The number of the last event line; 0: there was none.
        files: How many files.
        bytes: What is stored in them.
        size: What they take where holes are filled.
        format: Of the archive.
        notes: What is not in it, and what else to know, in sentences.
    """

    file: Path
    created: str
    molar: str
    generation: str | None
    catalogue: str | None
    events: int
    files: int
    bytes: int
    size: int
    format: int = FORMAT
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {**asdict(self), "file": str(self.file), "notes": list(self.notes)}


@dataclass(frozen=True)
class Restored:
    """A shop that was made of an archive.

    Attributes:
        folder: Its folder, with ``catalog/`` and ``.molar/`` in it.
        backup: The archive.
        notes: What to know and to do, in sentences.
    """

    folder: Path
    backup: Backup
    notes: tuple[str, ...]

    @property
    def catalogue(self) -> Path:
        """The folder of the catalogue."""
        return self.folder / CATALOG

    @property
    def workspace(self) -> Path:
        """The folder of the workspace."""
        return self.folder / DEFAULT_NAME

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        named = {name: str(getattr(self, name)) for name in ("folder", "catalogue", "workspace")}
        return {**named, "backup": self.backup.to_dict(), "notes": list(self.notes)}


def _head_of(backup: Backup) -> bytes:
    """What the archive begins with."""
    told = {name: value for name, value in backup.to_dict().items() if name not in ("file", "notes")}
    return json.dumps(told, indent=1).encode()


class _ChangedError(Exception):
    """A file was written to while it was read."""


@dataclass(frozen=True)
class _Member:
    """A file on its way into an archive; ``grows``: only what it has by now is taken, up to the end of a line."""

    name: str
    path: Path
    size: int
    stored: int
    grows: bool = False

    @classmethod
    def of(cls, name: str, path: Path) -> "_Member":
        with path.open("rb") as file:
            size, grows = os.fstat(file.fileno()).st_size, path.suffix == ".jsonl"
            if grows:
                size = _whole_lines(file, size)
            stored = sum(len(piece) for _, piece in filled(file.fileno())) if path.suffix == ".dat" else size
        return cls(name, path, size, stored, grows)


def _whole_lines(file: IO[bytes], size: int) -> int:
    """The bytes of a file up to the end of its last line."""
    while size:
        begin = max(0, size - _PIECE)
        file.seek(begin)
        if (end := file.read(size - begin).rfind(b"\n")) >= 0:
            return begin + end + 1
        size = begin
    return 0


def write_backup(
    workspace: Workspace, target: Path, *, settings: Path | None = None, progress: Progress = SILENT
) -> Backup:
    """Write a shop into an archive, which appears when it is complete; a former backup of that name is replaced.

    Args:
        workspace: The workspace; others may answer, append events and publish meanwhile.
        target: The archive.
        settings: The file of settings; None: ``molar.toml`` beside the workspace, if there is one.
        progress: Told of it.

    Raises:
        DataError: If the name is taken by something else, a file changes again and again while it is read, or an
            artefact is damaged.
        DiskError: If there is no room, or a file cannot be read.
    """
    target = target.absolute()
    if target.is_dir() or (target.exists() and not _is_backup(target)):
        raise DataError(f"{target} is there, and no backup", "name another file")
    with _disk_faults(), lock_beside(target):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return _Writer(workspace, target, settings, progress).write()
            except (_ChangedError, FileNotFoundError) as error:
                if attempt == _ATTEMPTS:
                    words = f"files of the shop changed while they were read: {error}"
                    raise DataError(words, "run again when nothing writes them") from error
    raise AssertionError


class _Writer:
    """One attempt at writing an archive."""

    def __init__(self, workspace: Workspace, target: Path, settings: Path | None, progress: Progress) -> None:
        self._workspace, self._root, self._target = workspace, workspace.root, target
        self._settings, self._progress = settings, progress
        self._members: dict[str, _Member] = {}
        self._versions: dict[Path, bytes] = {}  # with their inventories
        self._index: dict[str, list[Any]] = {}
        self._events = 0
        self._live: dict[str, str] = {}

    def write(self) -> Backup:
        partial = self._target.with_name(f".{self._target.name}.partial")
        _remove(partial)
        with ExitStack() as held:
            held.callback(_remove, partial)
            partial.mkdir(0o700)
            created = datetime.now(UTC).isoformat(timespec="seconds")
            self._collect(partial, held)
            found = self._members.values()
            stored, size = sum(one.stored for one in found), sum(one.size for one in found)
            require_space(self._target.parent, stored, "the backup takes up to")
            backup = Backup(
                self._target, created, __version__, self._live.get(GENERATIONS),
                self._live.get("catalogue"), self._events, len(found), stored, size,
                notes=self._notes(),
            )  # fmt: skip
            self._write_archive(partial / "archive", backup)
            (partial / "archive").replace(self._target)
            sync_folder(self._target.parent)
        return backup

    def _notes(self) -> tuple[str, ...]:
        if not (self._root / PSEUDONYMS).exists():
            return ()
        keys = trusted_file("privacy", "key_file") or "the file of MOLAR_PRIVACY_KEY_FILE"
        return (f"the keys of the pseudonyms are not in it: back {keys} up apart from it",)

    def _collect(self, partial: Path, held: ExitStack) -> None:
        """Find all files, hold versions, and copy databases into a folder; the order is that of the module's text."""
        root = self._root
        with ExperimentStore(self._workspace) as experiments:
            shown_by_arms = experiments.generations()
        self._copy_database(EXPERIMENTS, EXPERIMENTS_FILE, partial)
        for kind in KINDS:
            store = self._workspace[kind]
            if store.pointer is None:
                continue
            live, _ = store.require()
            self._live[kind] = live.name
            arms = [one for one in store.versions() if kind == GENERATIONS and one.name in shown_by_arms]
            for folder in sorted({live, *arms}):
                self._version(folder, held)
            (partial / f"{kind}.current").write_text(f"{live.name}\n", "utf-8")
            self._add(f"{DEFAULT_NAME}/{kind}/current", partial / f"{kind}.current")
        self._event_log(partial)
        for name in FOLDERS[1:]:
            self._folder(root / name, f"{DEFAULT_NAME}/{name}")
        self._catalogue()
        self._own_files()

    def _event_log(self, partial: Path) -> None:
        root = self._root
        with opened(self._workspace) as log:
            if log is not None:
                self._events = log.last
                require_space(partial, (root / EVENTS / LOG).stat().st_size, "a copy of the event log takes")
                for path in log.copy(partial / LOG):
                    self._add(f"{DEFAULT_NAME}/{EVENTS}/{SEALED}/{path.name}", path)
                self._add(f"{DEFAULT_NAME}/{EVENTS}/{LOG}", partial / LOG)
        for path in (root / EVENTS).glob("refused*.jsonl"):
            self._add(f"{DEFAULT_NAME}/{EVENTS}/{path.name}", path)

    def _own_files(self) -> None:
        """Settings beside the workspace, and its own files; the list of suppressed people comes last."""
        root = self._root
        for name in SETTINGS:
            path = file_beside(root, name)
            path = self._settings if name == SETTINGS[0] and self._settings is not None else path
            if path.is_file():
                self._add(name, path)
        for name in (PSEUDONYMS, LEDGER):
            if (root / name).is_file():
                self._add(f"{DEFAULT_NAME}/{name}", root / name)
        if (people := SuppressionList.of(root)) is not NOBODY:  # the list itself, wherever it lies
            self._add(f"{DEFAULT_NAME}/{SUPPRESSED}", people.file)

    def _version(self, folder: Path, held: ExitStack) -> None:
        """A version of an artefact, which nobody removes meanwhile."""
        try:
            held.enter_context(read_lock(folder))
        except StaleArtefactError as error:  # superseded and removed just now
            raise _ChangedError(folder) from error
        self._versions[folder] = (folder / artefacts.INVENTORY).read_bytes()
        if problems := artefacts.check_inventory(folder, digests=True):
            if (folder / artefacts.INVENTORY).read_bytes() != self._versions[folder]:
                raise _ChangedError(folder)
            words = f"{folder} is damaged: {problems[0]}"
            raise DataError(words, "run `molar doctor`, which says what to do, then back up again")
        self._folder(folder, f"{DEFAULT_NAME}/{folder.relative_to(self._root).as_posix()}", _HELD)

    def _folder(self, folder: Path, name: str, without: re.Pattern[str] = _TRANSIENT) -> None:
        for place, folders, files in os.walk(folder):
            folders[:] = sorted(one for one in folders if not without.fullmatch(one))
            for file in sorted(files):
                path = Path(place) / file
                if not without.fullmatch(file) and path.is_file() and not path.is_symlink():
                    self._add(f"{name}/{path.relative_to(folder).as_posix()}", path)

    def _copy_database(self, folder: str, file: str, partial: Path) -> None:
        source = self._root / folder / file
        if source.exists():
            require_space(partial, source.stat().st_size, f"a copy of {file} takes")
            (partial / file).touch(OWNER)
            with (
                closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection,
                closing(sqlite3.connect(partial / file)) as copy,
            ):
                connection.backup(copy)
            self._add(f"{DEFAULT_NAME}/{folder}/{file}", partial / file)

    def _catalogue(self) -> None:
        """Tables, their description, and photos below the catalogue's folder; links out of it are not followed."""
        folder = self._workspace.catalogue
        settings = CatalogueConfig.read(folder)
        tables: tuple[Stem, ...] = ("items", "interactions", "users")
        found = [path for stem in tables if (path := find_file(folder, stem, settings)) is not None]
        if (folder / FILE_NAME).is_file():
            found.append(folder / FILE_NAME)
        for path in found:
            self._add(f"{CATALOG}/{path.relative_to(folder).as_posix()}", path)
        photos = {path for path in (folder / settings.items.images).rglob("*") if path.suffix.lower() in EXTENSIONS}
        photos |= {folder / path for path in photo_paths(self._workspace)}
        inside = f"{os.path.realpath(folder)}{os.sep}"
        for path in sorted(photos):
            if path.is_file() and os.path.realpath(path).startswith(inside):
                self._add(f"{CATALOG}/{path.relative_to(folder).as_posix()}", path)

    def _add(self, name: str, path: Path) -> None:
        if (problem := _unfit(name)) is not None:
            raise DataError(f"{path} cannot be in a backup: {problem}", "give it another name")
        self._members[name] = _Member.of(name, path)

    def _write_archive(self, path: Path, backup: Backup) -> None:
        self._progress.start("writing the backup", backup.size)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, OWNER), "wb") as raw:
            with (
                gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
            ):
                head = _head_of(backup)
                _put_text(archive, HEAD, head)
                self._index[HEAD] = [len(head), _digest(head), 0]
                for member in self._members.values():
                    self._put(archive, member)
                for folder, known in self._versions.items():
                    if (folder / artefacts.INVENTORY).read_bytes() != known:
                        raise _ChangedError(folder)
                _put_text(archive, INDEX, json.dumps(self._index, ensure_ascii=False).encode("utf-8", "surrogatepass"))
            raw.flush()
            os.fsync(raw.fileno())
        self._progress.finish()

    def _put(self, archive: tarfile.TarFile, member: _Member) -> None:
        info = tarfile.TarInfo(member.name)
        with member.path.open("rb") as file:
            before = os.fstat(file.fileno())
            reading = _Hashing(file, member.size)
            info.size, info.mtime, info.mode = member.size, int(before.st_mtime), OWNER
            try:
                archive.addfile(info, reading)
            except OSError as error:
                if error.errno is not None:
                    raise
                raise _ChangedError(member.path) from error  # it is shorter than it was
            after = os.fstat(file.fileno())
        same = (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        if not member.grows and not (same and after.st_size == member.size):
            raise _ChangedError(member.path)
        self._index[member.name] = [member.size, reading.digest, before.st_mtime_ns]
        self._progress.advance(member.size)


class _Hashing:
    """The first bytes of an open file, with the digest of what was read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left, self._hash = file, size, blake2b(digest_size=32)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def read(self, count: int = -1) -> bytes:
        piece = self._file.read(self._left if count < 0 else min(count, self._left))
        self._left -= len(piece)
        self._hash.update(piece)
        return piece


def _put_text(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), OWNER
    archive.addfile(info, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=32).hexdigest()


def _is_backup(path: Path) -> bool:
    with suppress(MolarError, OSError), _unpacked(path) as packed:
        name, size = next(_headers(packed))
        return name == HEAD and size <= _LARGEST_HEAD
    return False


def restore_backup(file: Path, folder: Path, progress: Progress = SILENT) -> Restored:
    """Make a shop of an archive in a new folder, which appears when everything in it was checked.

    Args:
        file: The archive.
        folder: Where the shop goes: a folder that is not there, or empty.
        progress: Told of it.

    Raises:
        DataError: If the folder is not empty, or the archive is damaged, incomplete, or holds what no backup holds.
        StaleArtefactError: If a later version of molar made the archive.
        DiskError: If there is no room, or the folder cannot be written.
    """
    final = folder.absolute()
    if final.is_symlink() or (final.exists() and (not final.is_dir() or any(final.iterdir()))):
        raise DataError(f"{final} is there already", "name a new folder, or an empty one")
    checked(final / DEFAULT_NAME)
    with _disk_faults(), lock_beside(final):
        partial = final.with_name(f".{final.name}.partial")
        _remove(partial)
        try:
            (partial / DEFAULT_NAME).mkdir(0o700, parents=True)
            (partial / CATALOG).mkdir()
            partial.chmod(0o700)
            backup = _Reader(file, partial, progress).read()
            notes = _settled(partial, final, backup)
            sync_tree(partial)
            partial.replace(final)
            sync_folder(final.parent)
        finally:
            _remove(partial)
    return Restored(final, backup, notes)


def _settled(partial: Path, final: Path, backup: Backup) -> tuple[str, ...]:
    """Say in a workspace where it is going to be; what its owner should know."""
    root, catalogue = partial / DEFAULT_NAME, final / CATALOG
    WorkspaceRecord(catalogue, f"../{CATALOG}").write(root)
    workspace = Workspace(root)
    if (live := workspace["catalogue"].manifest) is not None:
        workspace["catalogue"].update_manifest(replace(live, facts={**live.facts, "folder": str(catalogue)}))
    notes = [
        f"this is the shop of {backup.created}: people who were forgotten or objected after that are in it again, so"
        " forget them again before it answers"
    ]
    if (root / LEDGER).exists():
        notes.append(f"releases of statistics after {backup.created} are not in the privacy ledger")
    if (root / PSEUDONYMS).exists():
        notes.append("the keys of the pseudonyms are not in the archive: name their file by MOLAR_PRIVACY_KEY_FILE")
    if backup.generation is not None:
        try:
            open_generation(workspace).close()
        except MolarError as error:
            notes.append(f"the index version cannot be opened: {error.message}; {error.hint}")
    return tuple(notes)


class _Reader:
    """An archive on its way into an empty folder."""

    def __init__(self, file: Path, folder: Path, progress: Progress) -> None:
        self._file, self._folder, self._progress = file, folder, progress
        self._stored = self._size = 0
        self._found: dict[str, list[Any]] = {}

    def read(self) -> Backup:
        with _unpacked(self._file) as packed:
            headers = _headers(packed)
            name, size = next(headers, ("", 0))
            if name != HEAD or size > _LARGEST_HEAD:
                raise DataError(f"{self._file} is no backup of molar", "name a file that `molar backup` wrote")
            content = packed.exactly(size)
            self._found[HEAD] = [size, _digest(content)]
            backup = self._head(content)
            require_space(self._folder, backup.bytes, "the shop takes")
            self._progress.start("restoring", backup.size)
            known: dict[str, Any] | None = None
            for name, size in headers:
                if known is not None:
                    raise self._refused(f"{shown(name)} comes after {INDEX}")
                if name == INDEX:
                    if size > _LARGEST_HEAD + _OF_FILE * backup.files:
                        raise self._refused(f"{INDEX} has {size:,} bytes")
                    known = self._json(packed.exactly(size), INDEX)
                else:
                    self._take(name, size, packed, backup)
            packed.end()
        if known is None:
            raise self._refused(f"{INDEX} is missing: the archive is not complete")
        self._check(known, backup)
        self._progress.finish()
        return backup

    def _head(self, content: bytes) -> Backup:
        told = self._json(content, HEAD)
        made_by = str(told.get("molar"))[:40]
        if told.get("format") != FORMAT or _version(made_by) > _version(__version__):
            words = f"{self._file} was made by molar {made_by}, and this is {__version__}"
            raise StaleArtefactError(words, f"restore it with molar {made_by} or a later one")
        try:
            fields = Backup(file=self._file, **told)
            counts = (fields.files, fields.bytes, fields.size, fields.events)
            datetime.fromisoformat(fields.created)
            good = all(type(one) is int and 0 <= one < _MOST for one in counts)
            names = [name for name in (fields.generation, fields.catalogue) if name is not None]
            if not good or not all(_is_plain(name) and "/" not in name for name in names) or fields.bytes > fields.size:
                raise TypeError("not a number or a name")
        except (TypeError, ValueError) as error:
            raise self._refused(f"{HEAD} does not say what it should") from error
        return fields

    def _json(self, content: bytes, name: str) -> dict[str, Any]:
        try:
            found = json.loads(content.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError) as error:
            raise self._refused(f"{name} is unreadable") from error
        if not isinstance(found, dict):
            raise self._refused(f"{name} is unreadable")
        return found

    def _take(self, name: str, size: int, packed: "_Packed", backup: Backup) -> None:
        """Write a file of the archive, but for pages of zeros, which become holes."""
        if (problem := _unfit(name)) is not None:
            raise self._refused(f"it has {shown(name)}: {problem}")
        self._size += size
        if name in self._found or len(self._found) > backup.files or self._size > backup.size:
            raise self._refused(f"{shown(name)} is there twice, or there is more than {HEAD} says")
        path, mode = self._folder / name, 0o666 if name.startswith(f"{CATALOG}/") else OWNER
        hashed, place = blake2b(digest_size=32), 0
        try:
            path.parent.mkdir(0o777 if name.startswith(f"{CATALOG}/") else 0o700, parents=True, exist_ok=True)
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except (FileExistsError, NotADirectoryError) as error:
            raise self._refused(f"{shown(name)} is a file and a folder") from error
        with os.fdopen(opened, "wb", 0) as file:
            while place < size:
                piece = packed.exactly(min(_PIECE, size - place))
                hashed.update(piece)
                for at, filled_part in pages(place, piece):
                    self._stored += len(filled_part)
                    os.pwrite(file.fileno(), filled_part, at)
                if self._stored > backup.bytes:
                    raise self._refused(f"there is more in it than {HEAD} says")
                place += len(piece)
            file.truncate(size)
        if free_space(self._folder) < SPARE:
            raise FullDiskError(f"the disk of {self._folder.parent} is full", "make room there")
        packed.skip(-size % _BLOCK)
        self._found[name] = [size, hashed.hexdigest()]
        self._progress.advance(size)

    def _check(self, known: Mapping[str, Any], backup: Backup) -> None:
        """Compare what was written with what the archive says of it, and give files their times."""
        if missing := sorted(known.keys() - self._found.keys()) or sorted(self._found.keys() - known.keys()):
            raise self._refused(f"{shown(missing[0])} is missing, in the archive or in {INDEX}")
        if len(known) != backup.files + 1:
            raise self._refused(f"it has {len(known) - 1:,} files, and {HEAD} says {backup.files:,}")
        for name, told in known.items():
            whole = isinstance(told, list) and len(told) == _ROW_OF_INDEX and type(told[2]) is int
            if not whole or told[:2] != self._found[name] or not 0 <= told[2] < _MOST:
                raise self._refused(f"{shown(name)} is not what it was")
            if name != HEAD:
                os.utime(self._folder / name, ns=(told[2], told[2]))

    def _refused(self, problem: str) -> DataError:
        return DataError(f"{self._file}: {problem}", "take another backup; nothing was restored")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text.partition("+")[0])[:3])


def _unfit(name: str) -> str | None:
    """Why a backup has no file of such a name; None where it may."""
    parts = name.split("/")
    if len(os.fsencode(name)) > _LONGEST_NAME or len(parts) > _MOST_PARTS:
        return "the name is too long"
    if name.startswith("/") or "\\" in name or not all(_is_plain(part) for part in parts):
        return "that is no path below a folder"
    if parts[0] == DEFAULT_NAME:
        place = parts[1] if len(parts) > 1 else ""
        fits = (place in FILES and len(parts) == 2) or (place in (*KINDS, *FOLDERS) and len(parts) > 2)
    else:
        fits = (parts[0] == CATALOG and len(parts) > 1) or name in SETTINGS
    return None if fits else "no backup has such a file"


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..") and len(os.fsencode(part)) <= _LONGEST_PART and not re.search(r"[\0-\x1f]", part)


@dataclass
class _Packed:
    """The bytes of an archive, unpacked as they are asked for."""

    file: Path
    stream: gzip.GzipFile

    def exactly(self, count: int) -> bytes:
        """So many bytes."""
        if len(found := self.stream.read(count)) < count:
            raise EOFError("it ends in the middle")
        return found

    def skip(self, count: int) -> None:
        """Leave out so few bytes."""
        self.exactly(count)

    def end(self) -> None:
        """Read to the end, where nothing is; its checksum is looked at then."""
        left = _TAIL
        while piece := self.stream.read(_PIECE):
            left -= len(piece)
            if any(piece) or left < 0:
                raise EOFError("something comes after its end")


@contextmanager
def _unpacked(file: Path) -> Iterator[_Packed]:
    """An archive; a DataError says that it is damaged or none."""
    try:
        with file.open("rb") as raw, gzip.GzipFile(fileobj=raw, mode="rb") as stream:
            yield _Packed(file, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        words = f"{file} is damaged or not complete: {error}"
        raise DataError(words, "take another backup; nothing was restored") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        if getattr(error, "filename", None) not in (str(file), file):
            raise
        raise DataError(f"there is no file {file}", "name a file that `molar backup` wrote") from error


def _headers(packed: _Packed) -> Iterator[tuple[str, int]]:
    """Name and size of each file, whose content is read before the next one; whatever is no plain file is refused.

    The standard library's reader believes the sizes of names and of extended headers, and knows links and devices.
    """
    longer: str | None = None
    while (block := packed.exactly(_BLOCK)) != bytes(_BLOCK):
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        name, size = longer or info.name, info.size
        if not 0 <= size < _MOST:
            raise tarfile.HeaderError(f"a file of {size} bytes")
        if info.type == tarfile.GNUTYPE_LONGNAME and longer is None and size <= _LONGEST_NAME + 1:
            longer = packed.exactly(size).rstrip(b"\0").decode("utf-8", "surrogateescape")
            packed.skip(-size % _BLOCK)
            continue
        if info.type != tarfile.REGTYPE:
            raise DataError(
                f"{packed.file}: it has {shown(name)}, which is no plain file",
                "take another backup; nothing was restored",
            )
        longer = None
        yield name, size
        if name in (HEAD, INDEX):
            packed.skip(-size % _BLOCK)


@contextmanager
def _disk_faults() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise disk_error(error) or error from error


def _remove(path: Path) -> None:
    """Remove what a run left that was killed, or this one has no more need of."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
