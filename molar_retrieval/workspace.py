"""The workspace: a folder (``.molar``) with everything the commands make for one catalogue.

Each kind of artefact has a folder of its own with immutable versions and a small file,
``current``, that names the live one and is replaced atomically::

    .molar/workspace.json                    which catalogue this is
    .molar/content/current                   "3f2a…"
    .molar/content/3f2a…/manifest.json       what it was made from, and how
    .molar/content/3f2a…/files.json          sizes and digests of its files
    .molar/content/9b01….partial/            unfinished work of a run that may continue

A version becomes visible only when it is complete and on the disk, so a command may be killed, and the power fail, at
any moment. Versions are ordered by the number in their manifests, not by time.
Manifests are JSON, tables Parquet, arrays safetensors, users of a generation SQLite; nothing is pickled.
"""

import errno
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Self

from molar_retrieval import binding, inventory
from molar_retrieval.binding import Binding
from molar_retrieval.disk import require
from molar_retrieval.durable import for_owner, sync_folder, sync_tree, write_atomically
from molar_retrieval.errors import DataError, MissingArtefactError, StaleArtefactError
from molar_retrieval.locks import alone, kept_held, lock_now
from molar_retrieval.manifest import MAKERS as MAKERS
from molar_retrieval.manifest import MANIFEST, OTHERS, number_of
from molar_retrieval.manifest import Manifest as Manifest

SWITCHING = "rotation/switching.json"
"""In a workspace of which some files name people by other keys than the rest: a rotation was interrupted."""
_LONGEST, _LONGEST_NAME = 440, 255
"""Bytes of a workspace's path: SQLite opens no path of more than 512, and files lie in folders below."""
_PARTIAL = ".partial"
_TRASH = ".trash"
_UNFINISHED = {_PARTIAL, _TRASH}
_OF_PEOPLE = {"interactions", "cf", "alignment", "generations"}
"""Kinds of artefacts that nobody but their owner may read."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class ArtefactStore:
    """All versions of one kind of artefact, and the pointer to the live one."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        self.kind = kind

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
        spare: Collection[Path] = (),
        live: bool = True,
    ) -> Path:
        """Make the finished ``partial`` the live version and drop all but ``keep`` others, see :meth:`prune`.

        Everything is on the disk before the pointer moves, and the pointer before anything old goes; ``scaffold``,
        files that only unfinished work needs, goes with it. Where it is not to go ``live``, the pointer stays. The
        caller holds the lock.
        """
        replace(manifest, number=1 + max([0, *map(number_of, self.versions())])).write(partial)
        inventory.take(partial, without=scaffold)
        self._keep(partial)
        sync_tree(partial)
        final = self._free(partial.name.removesuffix(_PARTIAL))
        partial.rename(final)
        sync_folder(self.root)
        if live:
            self.switch(final.name)
        for name in scaffold:
            (final / name).unlink(missing_ok=True)
        self.prune(keep, spare=[final, *spare])
        return final

    def _keep(self, folder: Path) -> None:
        if self.kind in _OF_PEOPLE:
            for_owner(folder)

    def _free(self, name: str) -> Path:
        """Where a version of this name goes: the live one stays in its place until the pointer has moved."""
        live = self.current
        final = next(f for n in count(1) if (f := self.root / (name if n == 1 else f"{name}-{n}")) != live)
        if final.exists():
            discard(final)
        return final

    def describe(self, manifest: Manifest, partial: Path | None = None) -> Manifest:
        """Say something else about the live version, whose content is what it was.

        Files in ``partial``, which is removed, take the place of the version's own ones. The inventory goes before the
        manifest: killed in between, the version is what it was, so the same command does the same again.
        """
        folder, old = self.require()
        manifest = replace(manifest, number=old.number)
        anew: set[str] = set()
        if partial is not None:
            self._keep(partial)
            sync_tree(partial)
            anew = {path.name for path in partial.iterdir()} - {MANIFEST, inventory.NAME}
            for name in anew:
                (partial / name).replace(folder / name)
            shutil.rmtree(partial)
        inventory.amend(folder, anew, {MANIFEST: manifest.text.encode("utf-8")})
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

    def prune(self, keep: int, *, spare: Collection[Path] = ()) -> None:
        """Remove superseded versions beyond the ``keep`` newest, and unfinished work, but what is ``spare`` or held."""
        stays = {self.current, *spare}
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
        return Binding.read(self.root).now(self.root)

    @property
    def is_as_written(self) -> bool:
        """Whether ``workspace.json`` holds what was written into it, byte by byte."""
        try:
            return Binding.read(self.root).text == (self.root / binding.NAME).read_text("utf-8").rstrip("\n")
        except (OSError, ValueError, StaleArtefactError):
            return False

    @classmethod
    def for_catalogue(cls, root: Path, catalogue: Path) -> Self:
        """Open the workspace at ``root``, or make one; a DataError if it serves another catalogue, or there is none."""
        binding.claim(checked(root), catalogue)
        return cls(root)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open an existing workspace; MissingArtefactError where there is none."""
        if not binding.is_workspace(root):
            raise binding.no_workspace(root)
        return cls(checked(root))

    @contextmanager
    def lock(self, kind: str, work: str | None = None) -> Iterator[None]:
        """Keep a second writer of the same kind of artefact out; released when the process ends.

        A DataError says that there is one, and its ``work``, that the file system has no locks, or that the disk is
        full.
        """
        folder = self.root / kind
        require(folder, 0, f"writing the {kind} takes")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            try:
                free = lock_now(file.fileno())
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                raise DataError(
                    f"the file system of {self.root} has no locks ({error.strerror}), so nothing would keep two"
                    " commands from writing at once",
                    "put the workspace on a local disk with --workspace DIR, or mount the file system with locks",
                ) from error
            if not free:
                raise DataError(
                    f"another process is {work or f'writing the {kind} of'} {self.root}",
                    "wait until it is done, then run again",
                )
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
