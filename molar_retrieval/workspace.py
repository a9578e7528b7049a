"""The workspace: a folder (``.molar``) with everything the commands make for one catalogue.

Each kind of artefact has a folder of its own with immutable versions and a small file,
``current``, that names the live one and is replaced atomically::

    .molar/workspace.json                    which catalogue this is
    .molar/content/current                   "3f2a…"
    .molar/content/3f2a…/manifest.json       what it was made from, and how
    .molar/content/9b01….partial/            unfinished work of a run that may continue

A version becomes visible only when it is complete, so a command may be killed at any moment.
Manifests are JSON, tables Parquet, arrays safetensors, users of a generation SQLite; nothing is pickled.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from molar_retrieval import __version__
from molar_retrieval.disk import require
from molar_retrieval.errors import DataError, MissingArtefactError, StaleArtefactError
from molar_retrieval.holding import alone

FORMAT = 1
DEFAULT_NAME = ".molar"
_PARTIAL = ".partial"
_TRASH = ".trash"
_UNFINISHED = {_PARTIAL, _TRASH}
MAKERS = {
    "catalogue": "molar embed CATALOG",
    "interactions": "molar align",
    "content": "molar embed CATALOG",
    "cf": "molar cf",
    "alignment": "molar align",
    "generations": "molar align",
}
"""Kinds of artefacts, in the order in which they are made, and the command that makes each."""


@dataclass(frozen=True)
class Manifest:
    """What an artefact is and what it was made from.

    Attributes:
        kind: The kind of artefact, the name of its folder.
        fingerprint: Names this version; equal inputs and settings give equal fingerprints.
        inputs: Fingerprint of each input artefact, by kind.
        settings: The settings that shaped it.
        facts: What is worth knowing about the result (counts, dimensions, timings).
        versions: Versions of the libraries that made it.
        created: When, in UTC (ISO 8601).
    """

    kind: str
    fingerprint: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: int = FORMAT
    molar: str = __version__

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into the artefact's folder."""
        write_atomically(folder / "manifest.json", json.dumps(asdict(self), indent=1, ensure_ascii=False))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``manifest.json`` from the artefact's folder.

        Raises:
            StaleArtefactError: If it is unreadable or of a format that this version does not know.
        """
        path = folder / "manifest.json"
        try:
            raw = json.loads(path.read_text("utf-8"))
            manifest = cls(**raw)
        except (OSError, ValueError, TypeError) as error:
            raise StaleArtefactError(
                f"{path} is unreadable: {error}",
                f"delete {folder} and run `{MAKERS.get(folder.parent.name, 'the command that made it')}` again",
            ) from error
        if manifest.format != FORMAT:
            raise StaleArtefactError(
                f"{folder} has format {manifest.format}, this version of molar reads {FORMAT}",
                f"run `{MAKERS.get(manifest.kind, 'the command that made it')}` again",
            )
        return manifest


class ArtefactStore:
    """All versions of one kind of artefact, and the pointer to the live one."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        self.kind = kind

    @property
    def current(self) -> Path | None:
        """The live version's folder, or None where nothing was published yet."""
        try:
            name = (self.root / "current").read_text("utf-8").strip()
        except FileNotFoundError:
            return None
        folder = self.root / name
        return folder if name and folder.is_dir() else None

    @property
    def manifest(self) -> Manifest | None:
        """The live version's manifest, or None where there is no live version."""
        folder = self.current
        return None if folder is None else Manifest.read(folder)

    def require(self) -> tuple[Path, Manifest]:
        """The live version.

        Raises:
            MissingArtefactError: Naming the command that makes one.
        """
        folder = self.current
        if folder is None:
            raise MissingArtefactError(
                f"the workspace {self.root.parent} has no {self.kind} yet",
                f"run `{MAKERS[self.kind]}` first",
            )
        return folder, Manifest.read(folder)

    def versions(self) -> list[Path]:
        """All complete versions, oldest first."""
        folders = [f for f in self.root.glob("*/") if (f / "manifest.json").exists() and f.suffix not in _UNFINISHED]
        return sorted(folders, key=_age)

    def partial(self, name: str) -> Path:
        """The folder for unfinished work on version ``name``; what an earlier run left is still in it."""
        folder = self.root / f"{name}{_PARTIAL}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def partials(self) -> list[Path]:
        """Folders of unfinished work."""
        return sorted(self.root.glob(f"*{_PARTIAL}/"))

    def publish(self, partial: Path, manifest: Manifest, *, keep: int = 0) -> Path:
        """Make the finished ``partial`` the live version and drop all but ``keep`` older ones.

        Args:
            partial: A folder from :meth:`partial`, complete.
            manifest: Written into the folder before it is renamed.
            keep: How many superseded versions stay for a rollback.

        Returns:
            The version's folder.
        """
        manifest.write(partial)
        final = self.root / partial.name.removesuffix(_PARTIAL)
        if final.exists():
            _discard(final)
        partial.rename(final)
        self.switch(final.name)
        self.prune(keep)
        return final

    def switch(self, name: str) -> None:
        """Point ``current`` at an existing version; readers see the old one or the new one."""
        if not (self.root / name / "manifest.json").exists():
            raise MissingArtefactError(
                f"there is no {self.kind} version {name!r} in {self.root}", "name an existing one"
            )
        write_atomically(self.root / "current", name + "\n")

    def prune(self, keep: int) -> None:
        """Remove superseded versions beyond the ``keep`` newest, and unfinished work.

        What somebody holds, see :mod:`molar_retrieval.holding`, stays as it is until the next time.
        """
        live = self.current
        old = [f for f in self.versions() if f != live]
        for folder in [*(old[:-keep] if keep else old), *self.partials(), *self.root.glob(f"*{_TRASH}/")]:
            with alone(folder) as free:
                if free:
                    _discard(folder)


def _age(folder: Path) -> tuple[str, int]:
    """Orders versions by age; one with an unreadable manifest counts as the oldest, and goes first."""
    try:
        return Manifest.read(folder).created, (folder / "manifest.json").stat().st_mtime_ns
    except (StaleArtefactError, FileNotFoundError):
        return "", 0


def _discard(folder: Path) -> None:
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
        self.root = root

    def __getitem__(self, kind: str) -> ArtefactStore:
        """The store of one kind of artefact: ``workspace["content"]``."""
        return ArtefactStore(self.root / kind, kind)

    @property
    def catalogue(self) -> Path:
        """The catalogue's folder that this workspace serves."""
        return Path(json.loads((self.root / "workspace.json").read_text("utf-8"))["catalogue"])

    @classmethod
    def for_catalogue(cls, root: Path, catalogue: Path) -> Self:
        """Open the workspace at ``root`` for ``catalogue``, making it where it does not exist.

        Raises:
            DataError: If the workspace serves another catalogue.
        """
        workspace = cls(root)
        catalogue = catalogue.resolve()
        if (root / "workspace.json").exists():
            if (served := workspace.catalogue) != catalogue:
                raise DataError(
                    f"the workspace {root} serves the catalogue {served}, not {catalogue}",
                    "name another workspace with --workspace DIR, or delete this one if the catalogue moved",
                )
            return workspace
        root.mkdir(parents=True, exist_ok=True)
        record = {"format": FORMAT, "catalogue": str(catalogue)}
        write_atomically(root / "workspace.json", json.dumps(record, ensure_ascii=False))
        return workspace

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open an existing workspace.

        Raises:
            MissingArtefactError: If there is none at ``root``.
        """
        if not (root / "workspace.json").exists():
            raise MissingArtefactError(
                f"there is no workspace at {root}",
                "run `molar embed CATALOG` first, or name one with --workspace DIR",
            )
        return cls(root)

    @contextmanager
    def lock(self, kind: str) -> Iterator[None]:
        """Keep a second writer of the same kind of artefact out; released when the process ends.

        Raises:
            DataError: If another process is at work on it.
            DiskError: If the disk is full.
        """
        import fcntl

        folder = self.root / kind
        require(folder, 0, f"writing the {kind} takes")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise DataError(
                    f"another process is writing the {kind} of {self.root}",
                    "wait until it is done, then run again",
                ) from error
            yield


def locate(start: Path, name: str = DEFAULT_NAME) -> Path:
    """The workspace nearest to ``start``, searched upward as git does; ``start/.molar`` where there is none."""
    start = start.resolve()
    for folder in [start, *start.parents]:
        if (folder / name / "workspace.json").exists():
            return folder / name
    return start / name


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that a reader sees the old content or the new one, nothing between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
