"""Artefacts: what the commands make for one catalogue, in immutable versions with a manifest and an inventory.

Each kind has a folder with its versions and a small file, ``current``, that names the live one::

    .molar/workspace.json                    which catalogue this is
    .molar/content/current                   "3f2a…"
    .molar/content/3f2a…/manifest.json       what it was made from, and how
    .molar/content/3f2a…/files.json          sizes and digests of its files
    .molar/content/9b01….partial/            unfinished work of a run that may continue

A version becomes visible only when it is complete and on the disk, so a command may be killed, and the power fail, at
any moment. Versions are ordered by the number in their manifests. Manifests are JSON, tables Parquet, arrays
safetensors, users of a generation SQLite; nothing is pickled.

``files.json`` has the size and digest of every file, and under its own name their number and a digest of the rest. The
embedded engine rewrites its JSON files with the keys in another order; of these the content counts. Its files of values
are holes for the most part; of these what is not zero counts.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Self

from molar_retrieval import __version__
from molar_retrieval.errors import DataError, MissingArtefactError, StaleArtefactError
from molar_retrieval.workspace import discovery, fingerprint
from molar_retrieval.workspace.discovery import EVENTS, RECORD, WorkspaceRecord, check_record
from molar_retrieval.workspace.files import (
    MANIFEST,
    for_owner,
    kept_held,
    lock_now,
    require_space,
    sync_folder,
    sync_tree,
    write_atomically,
)
from molar_retrieval.workspace.files import exclusive as alone

FORMAT = 1
MAKERS = {
    "catalogue": "molar embed CATALOG",
    "interactions": "molar align",
    "content": "molar embed CATALOG",
    "als": "molar cf",
    "alignment": "molar align",
    "generations": "molar align",
}
"""Kinds of artefacts, in the order in which they are made, and the command that makes each."""
OTHERS = {"statistics": "molar align --privacy EPSILON"}
"""Kinds that only some workspaces have."""
PRIVATE = "private"
"""The fact of an alignment on statistics with noise that tells of their release."""


@dataclass(frozen=True)
class Manifest:
    """What an artefact is and what it was made from."""

    kind: str
    fingerprint: str  # names this version; equal inputs and settings give equal fingerprints
    inputs: Mapping[str, str] = field(default_factory=dict)  # fingerprint of each input artefact, by kind
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the result: counts, dimensions, timings
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))  # in UTC (ISO 8601)
    format: int = FORMAT
    molar: str = __version__
    number: int = 0  # 1 + the highest of its kind when it was published; 0 before that

    @property
    def text(self) -> str:
        """What ``manifest.json`` holds."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into the folder."""
        write_atomically(folder / MANIFEST, self.text)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``manifest.json``; a StaleArtefactError says that it is unreadable or of an unknown format."""
        path = folder / MANIFEST
        try:
            manifest = cls(**json.loads(path.read_text("utf-8")))
            if not isinstance(manifest.number, int):
                raise TypeError(f"number is {manifest.number!r}")
            if manifest.format != FORMAT:
                raise ValueError(f"it has format {manifest.format}, this version of molar reads {FORMAT}")
        except (OSError, ValueError, TypeError, RecursionError) as error:
            maker = MAKERS.get(folder.parent.name, "the command that made it")
            raise StaleArtefactError(
                f"{path} is unreadable: {error}", f"delete {folder} and run `{maker}` again"
            ) from error
        return manifest


def number_of(folder: Path) -> int:
    """The number of a version, by which versions are ordered; -1 where its manifest cannot be read."""
    with suppress(StaleArtefactError):
        return Manifest.read(folder).number
    return -1


INVENTORY = "files.json"
_REORDERED = "json:"  # begins the digest of a JSON file whose keys may come in any order
_SPARSE = "sparse:"  # begins the digest of a file of which zeros were not hashed


def write_inventory(folder: Path, without: Collection[str] = ()) -> None:
    """Write ``files.json`` of a complete version, but for files that will not stay."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    known = {name: _described(path, name) for name, path in files.items() if name not in {INVENTORY, *without}}
    write_atomically(folder / INVENTORY, _inventory_of(known))


def amend_inventory(folder: Path, anew: Mapping[str, Path], instead: Mapping[str, bytes]) -> None:
    """Write a version's inventory again for files that were replaced, or are about to be; of others it stays.

    ``anew`` says which file has what they hold, ``instead`` the bytes.
    """
    known: dict[str, Any] = json.loads((folder / INVENTORY).read_text("utf-8"))
    known.pop(INVENTORY, None)
    known |= {name: _described(path, name) for name, path in anew.items()}
    known |= {name: [len(content), fingerprint.of_content(content)] for name, content in instead.items()}
    write_atomically(folder / INVENTORY, _inventory_of(known))


def _inventory_of(known: Mapping[str, Any]) -> str:
    own = [len(known), fingerprint.of_json(known)]
    return json.dumps({**known, INVENTORY: own}, indent=0, ensure_ascii=False)


def check_inventory(folder: Path, *, digests: bool = False) -> list[str]:
    """What is wrong with a version's files, as sentences; with ``digests`` they are read too."""
    try:
        text = (folder / INVENTORY).read_text("utf-8")
        known: dict[str, Any] = json.loads(text)
        del known[INVENTORY]
        names = [(name, (int(facts[0]), str(facts[1]))) for name, facts in known.items()]
    except (OSError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        return [f"{INVENTORY} is unreadable: {error}"]
    if _inventory_of(known) != text:
        return [f"{INVENTORY} was changed"]
    problems = []
    for name, (size, digest) in names:
        try:
            found = (folder / name).stat().st_size
            if found != size:
                problems.append(f"{name} has {found} bytes instead of {size}")
            elif digests and _digest(folder / name, digest) != digest:
                problems.append(f"{name} was changed")
        except FileNotFoundError:
            problems.append(f"{name} is missing")
        except (OSError, ValueError) as error:
            problems.append(f"{name} is unreadable: {error}")
    return problems


def _described(path: Path, name: str) -> list[Any]:
    of_engine = {".json": _REORDERED, ".dat": _SPARSE} if "/" in name else {}
    return [path.stat().st_size, _digest(path, of_engine.get(path.suffix, ""))]


def _digest(path: Path, manner: str) -> str:
    """The digest of a file, taken in the manner that ``manner`` begins with.

    Of a JSON file of the engine it is of what the file says, and of which bytes it is made.
    """
    if manner.startswith(_SPARSE):
        return _SPARSE + fingerprint.of_sparse_file(path)
    if not manner.startswith(_REORDERED):
        return fingerprint.of_file(path)
    raw = path.read_bytes()
    try:
        said = fingerprint.of_json(json.loads(raw))
    except ValueError:
        said = fingerprint.of_content(raw)
    return _REORDERED + fingerprint.of_content(said.encode() + bytes(sorted(raw)))


SWITCHING = "rotation/switching.json"
"""In a workspace of which some files name people by other keys than the rest: a rotation was interrupted."""
_LONGEST, _LONGEST_NAME = 440, 255
"""Bytes of a workspace's path: SQLite opens no path of more than 512, and files lie in folders below."""
_PARTIAL = ".partial"
_TRASH = ".trash"
_UNFINISHED = {_PARTIAL, _TRASH}
_OF_PEOPLE = {"interactions", "als", "alignment", "generations"}
"""Kinds of artefacts that nobody but their owner may read."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class ArtefactStore:
    """All versions of one kind of artefact, and the pointer to the live one; ``pinned`` is taken for the live one."""

    def __init__(self, root: Path, kind: str, pinned: "tuple[Path, Manifest] | None" = None) -> None:
        self.root, self.kind, self._pinned = root, kind, pinned

    @property
    def pointer(self) -> str | None:
        """The name of the live version, which may not be there, or None; StaleArtefactError where it is no name."""
        try:
            raw = (self.root / "current").read_bytes()
        except FileNotFoundError:
            return None
        name = raw.decode("utf-8", "replace").removesuffix("\n")
        if not _is_plain(name):
            raise StaleArtefactError(f"{self.root / 'current'} does not hold the name of a version", self._remedy)
        return name

    @property
    def live(self) -> tuple[Path, Manifest] | None:
        """The live version; None where none was published, or it is lost; StaleArtefactError where it is damaged."""
        if self._pinned is not None:
            return self._pinned
        name: str | None = None
        while True:
            before = name
            try:
                name = self.pointer
            except StaleArtefactError:
                return None
            if name is None or name == before:
                return None
            folder = self.root / name
            try:
                return folder, Manifest.read(folder)
            except StaleArtefactError:
                if folder.is_dir():
                    raise
                # Superseded and removed since its name was read; then the pointer names another one.

    @property
    def current(self) -> Path | None:
        """The live version's folder, or None where there is none."""
        if self._pinned is not None:
            return self._pinned[0]
        with suppress(StaleArtefactError):
            if (name := self.pointer) and (self.root / name).is_dir():
                return self.root / name
        return None

    @property
    def manifest(self) -> Manifest | None:
        """The live version's manifest, or None where there is no live version."""
        return None if (live := self.live) is None else live[1]

    def require(self) -> tuple[Path, Manifest]:
        """The live version; a MissingArtefactError, or a StaleArtefactError if it is damaged, names what makes one."""
        if (live := self.live) is not None:
            return live
        if (name := self.pointer) is not None:
            raise StaleArtefactError(
                f"{self.root / 'current'} names {name}, and there is no such version", self._remedy
            )
        raise MissingArtefactError(
            f"the workspace {self.root.parent} has no {self.kind} yet", f"run `{self._maker}` first"
        )

    @property
    def _remedy(self) -> str:
        back = "`molar index rollback NAME`, or " if self.kind == "generations" else ""
        return f"run {back}`{self._maker}`, which makes another one"

    @property
    def _maker(self) -> str:
        return (MAKERS | OTHERS)[self.kind]

    def versions(self) -> list[Path]:
        """All complete versions, oldest first."""
        folders = [f for f in self.root.glob("*/") if (f / MANIFEST).exists() and f.suffix not in _UNFINISHED]
        return sorted(folders, key=number_of)

    def partial(self, name: str) -> Path:
        """The folder for unfinished work on version ``name``; what an earlier run left is still in it."""
        folder = self.root / f"{name}{_PARTIAL}"
        self.root.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700 if self.kind in _OF_PEOPLE else 0o777, exist_ok=True)
        return folder

    def partials(self) -> list[Path]:
        """Folders of unfinished work."""
        return sorted(self.root.glob(f"*{_PARTIAL}/"))

    def publish(
        self,
        partial: Path,
        manifest: Manifest,
        *,
        keep: int = 0,
        scaffold: Collection[str] = (),
        protect: Collection[Path] = (),
        live: bool = True,
    ) -> Path:
        """Make the finished ``partial`` the live version and drop all but ``keep`` others, see :meth:`prune`.

        Everything is on the disk before the pointer moves, and the pointer before anything old goes; ``scaffold``,
        files that only unfinished work needs, goes with it. Where it is not to go ``live``, the pointer stays. The
        caller holds the lock.
        """
        replace(manifest, number=1 + max([0, *map(number_of, self.versions())])).write(partial)
        write_inventory(partial, without=scaffold)
        self._keep(partial)
        sync_tree(partial)
        name, taken = partial.name.removesuffix(_PARTIAL), self.current
        names = (name if n == 1 else f"{name}-{n}" for n in count(1))
        final = next(place for one in names if (place := self.root / one) != taken)  # the live one stays in its place
        if final.exists():
            discard(final)
        partial.rename(final)
        sync_folder(self.root)
        if live:
            self.switch(final.name)
        for name in scaffold:
            (final / name).unlink(missing_ok=True)
        self.prune(keep, protect=[final, *protect])
        return final

    def _keep(self, folder: Path) -> None:
        if self.kind in _OF_PEOPLE:
            for_owner(folder)

    def update_manifest(self, manifest: Manifest, partial: Path | None = None) -> Manifest:
        """Say something else about the live version, whose content is what it was.

        Files in ``partial``, which is removed, take the place of the version's own ones. The inventory goes before the
        manifest: killed in between, the version is what it was, so the same command does the same again.
        """
        folder, old = self.require()
        manifest = replace(manifest, number=old.number)
        anew: dict[str, Path] = {}
        if partial is not None:
            self._keep(partial)
            sync_tree(partial)
            names = {path.name for path in partial.iterdir()} - {MANIFEST, INVENTORY}
            anew = {name: (partial / name).replace(folder / name) for name in names}
            shutil.rmtree(partial)
        amend_inventory(folder, anew, {MANIFEST: manifest.text.encode("utf-8")})
        with kept_held(folder):
            manifest.write(folder)
        return manifest

    def switch(self, name: str) -> None:
        """Point ``current`` at an existing version; readers see the old one or the new one."""
        if not _is_plain(name) or not (self.root / name / MANIFEST).exists():
            raise MissingArtefactError(
                f"there is no {self.kind} version {name!r} in {self.root}", "name an existing one"
            )
        write_atomically(self.root / "current", name + "\n")

    def prune(self, keep: int, *, protect: Collection[Path] = ()) -> None:
        """Remove unfinished work and all but the ``keep`` newest old versions; what is in ``protect`` or read stays."""
        stays = {self.current, *protect}
        old = [f for f in self.versions() if f not in stays]
        work = [f for f in self.partials() if f not in stays]
        for folder in [*(old[:-keep] if keep else old), *work, *self.root.glob(f"*{_TRASH}/")]:
            with alone(folder) as free:
                if free:
                    discard(folder)


def _is_plain(name: str) -> bool:
    """Whether a text names one folder of finished work and nothing else."""
    fits = 0 < len(name.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME and name == name.strip()
    alone = name.isprintable() and not set(name) & set("/\\\ufffd") and bool(name.strip("."))
    return fits and alone and Path(name).suffix not in _UNFINISHED


def discard(folder: Path) -> None:
    """Remove a folder: it disappears at once, not file by file."""
    trash = folder if folder.suffix == _TRASH else folder.with_name(folder.name + _TRASH)
    if trash != folder:
        shutil.rmtree(trash, ignore_errors=True)
        with suppress(FileNotFoundError):
            folder.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


class Workspace:
    """The folder in which the commands leave their results for one catalogue."""

    def __init__(self, root: Path) -> None:
        self.root = absolute(root)

    def __getitem__(self, kind: str) -> ArtefactStore:
        """The store of one kind of artefact."""
        return ArtefactStore(self.root / kind, kind)

    @property
    def catalogue(self) -> Path:
        """The catalogue's folder that this workspace serves; StaleArtefactError where that is not told."""
        return WorkspaceRecord.read(self.root).now(self.root)

    @property
    def is_as_written(self) -> bool:
        """Whether ``workspace.json`` holds what was written into it, byte by byte."""
        try:
            return WorkspaceRecord.read(self.root).text == (self.root / RECORD).read_text("utf-8").rstrip("\n")
        except (OSError, ValueError, StaleArtefactError):
            return False

    @classmethod
    def for_catalogue(cls, root: Path, catalogue: Path) -> Self:
        """Open the workspace at ``root``, or make one; a DataError if it serves another catalogue, or there is none."""
        discovery.bind(checked(root), catalogue)
        return cls(root)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open an existing workspace; MissingArtefactError where there is none."""
        if not discovery.is_workspace(root):
            raise discovery.no_workspace(root)
        return cls(checked(root))

    @contextmanager
    def lock(self, kind: str, work: str | None = None, patience: float = 0.0) -> Iterator[None]:
        """Keep a second writer of the same kind of artefact out; released when the process ends.

        A DataError says that there is one, for longer than ``patience`` seconds, and its ``work``, that the file system
        has no locks, or that the disk is full.
        """
        folder, end = self.root / kind, time.monotonic() + patience
        require_space(folder, 0, f"writing the {kind} takes")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            try:
                while not lock_now(file.fileno()):
                    if time.monotonic() > end:
                        words = f"another process is {work or f'writing the {kind} of'} {self.root}"
                        raise DataError(words, "wait until it is done, then run again")
                    time.sleep(0.05)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                raise DataError(
                    f"the file system of {self.root} has no locks ({error.strerror}), so nothing would keep two"
                    " commands from writing at once",
                    "put the workspace on a local disk with --workspace DIR, or mount the file system with locks",
                ) from error
            yield


def absolute(path: Path) -> Path:
    """A path that means the same wherever the program goes; links stay, but where ``..`` comes after one."""
    return path.resolve() if ".." in path.parts else path.absolute()


def checked(root: Path, *, rotating: bool = False) -> Path:
    """A workspace's folder; DataError where its path is too long for what is kept there to be opened.

    A StaleArtefactError says that a change of the keys of its pseudonyms was interrupted, except to the command that
    ends it (``rotating``).
    """
    path = os.fsencode(root.absolute())
    if (size := len(path)) > _LONGEST or max(map(len, path.split(b"/"))) > _LONGEST_NAME:
        raise DataError(
            f"the path {str(root)[:40]}… of the workspace has {size} bytes: at most {_LONGEST} can be used,"
            f" {_LONGEST_NAME} for one name",
            "name a folder nearer to the root with --workspace DIR",
        )
    if (root / SWITCHING).exists() and not rotating:
        words = f"a change of the keys of {root} was interrupted, so that some of its files name people otherwise"
        raise StaleArtefactError(words, "run `molar privacy rotate`, which ends it")
    return root


def move_workspace(workspace: Workspace, target: Path) -> Workspace:
    """Bring a workspace to another folder, which must be new; killed at any moment, it is whole in one of the two.

    A DataError says that something is there, or that another process writes.
    """
    root, target = workspace.root.resolve(), checked(target.absolute())
    if target.exists() or target.is_symlink():
        raise DataError(f"{target} is there already", "name a new folder")
    if root in target.parents:
        raise DataError(f"{target} is in the workspace itself", "name a folder outside of it")
    catalogue = workspace.catalogue
    with ExitStack() as held:
        for kind in (*MAKERS, *OTHERS):
            held.enter_context(workspace.lock(kind))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            root.rename(target)
        except OSError:  # another disk
            partial = target.with_name(f"{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(root, partial, symlinks=True)
            sync_tree(partial)
            partial.rename(target)
            shutil.rmtree(root)
        sync_folder(target.parent)
        discovery.WorkspaceRecord.of(target, catalogue).write(target)
    return Workspace(target)


@contextmanager
def scratch_workspace(root: Path, catalogue: Path) -> Iterator[Workspace]:
    """A workspace like the one at ``root``, which may not exist, and is left as it is; raises as ``for_catalogue``."""
    from tempfile import TemporaryDirectory

    check_record(root, catalogue.resolve())
    with TemporaryDirectory(prefix="molar-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        for file in (f for f in root.glob("*") if f.is_file() and f.name != RECORD):
            shutil.copyfile(file, place / file.name)
        for kind in (*MAKERS, *OTHERS):
            for inner in (root / kind).glob("*"):
                _mirror(inner, place / kind / inner.name)
        if (root / EVENTS).is_dir():
            (place / EVENTS).symlink_to((root / EVENTS).resolve())  # to which nothing is appended here
        yield Workspace.for_catalogue(place, catalogue)


def _mirror(found: Path, place: Path) -> None:
    """A folder of links to a version's files, so that replacing one replaces a link; a pointer is copied."""
    if found.is_dir():
        place.mkdir(parents=True)
        for file in found.iterdir():
            (place / file.name).symlink_to(file.resolve())
    elif found.name == "current":
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, place)
