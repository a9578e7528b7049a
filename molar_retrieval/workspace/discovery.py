"""Which catalogue a workspace is of, and which workspace a folder has.

``workspace.json`` names the catalogue from the root and from the workspace's own folder, so that both may be moved
together. It is written once the catalogue was found, and goes again where the first command leaves nothing.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from molar_retrieval.errors import DataError, MissingArtefactError, StaleArtefactError
from molar_retrieval.workspace.files import MANIFEST, write_atomically

DEFAULT_NAME = ".molar"
FORMAT = 1
RECORD = "workspace.json"
EVENTS = "events"
"""The folder of the event log."""


@dataclass(frozen=True)
class WorkspaceRecord:
    """What ``workspace.json`` says.

    Attributes:
        catalogue: The catalogue's folder when it was written.
        beside: The same from the workspace's folder.
    """

    catalogue: Path
    beside: str

    @classmethod
    def of(cls, root: Path, catalogue: Path) -> Self:
        """That of a workspace at ``root``."""
        return cls(catalogue, os.path.relpath(catalogue, root.resolve()))

    @classmethod
    def read(cls, root: Path) -> Self:
        """Raises a StaleArtefactError where it is damaged, or of another format."""
        path = root / RECORD
        try:
            record = json.loads(path.read_text("utf-8"))
            if record["format"] != FORMAT:
                raise ValueError(f"it has format {record['format']!r}, this version of molar reads {FORMAT}")
            return cls(Path(record["catalogue"]), str(record["beside"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StaleArtefactError(
                f"{path} is damaged: it does not say which catalogue this workspace serves ({error})",
                "delete this file and run `molar embed CATALOG` again; nothing else is lost",
            ) from error

    @property
    def text(self) -> str:
        """What ``workspace.json`` holds."""
        record = {"format": FORMAT, "catalogue": str(self.catalogue), "beside": self.beside}
        return json.dumps(record, ensure_ascii=False)

    def write(self, root: Path) -> None:
        """Put it into a workspace, which is made, for its user alone, where it is not there."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(root / RECORD, self.text)

    def now(self, root: Path) -> Path:
        """Where the catalogue is: beside the workspace as before, where its files are there, else as it was written."""
        beside = (root.resolve() / self.beside).resolve()
        moved = beside != self.catalogue and _has_files(root, beside, copied=True)
        return beside if moved else self.catalogue


def is_workspace(root: Path) -> bool:
    """Whether there is one, of whatever catalogue."""
    return (root / RECORD).exists()


def is_unrecorded(root: Path) -> bool:
    """Whether there is such a folder, and no record in it: an incomplete restore leaves a part of a workspace."""
    return root.is_dir() and not is_workspace(root)


def no_workspace(root: Path) -> MissingArtefactError:
    """The error that there is no workspace at ``root``."""
    if is_unrecorded(root):
        return MissingArtefactError(
            f"{root} is not a whole workspace: it has no {RECORD}, the record of its catalogue",
            "run `molar embed CATALOG` here, which makes it the workspace of that catalogue, restore all of it, or name"
            " another workspace with --workspace DIR",
        )
    return MissingArtefactError(
        f"there is no workspace at {root}: nothing was made for this shop yet",
        "run `molar embed CATALOG`, then `molar align`, or name another workspace with --workspace DIR",
    )


def check_record(root: Path, catalogue: Path) -> WorkspaceRecord | None:
    """What the workspace at ``root`` says, which may be one of this catalogue; None where there is no workspace.

    A DataError says that there is no such folder, or that the workspace is another catalogue's.
    """
    if not is_workspace(root):
        if not catalogue.is_dir():
            raise DataError(f"there is no folder {catalogue}", "correct the path of the catalogue")
        return None
    found = WorkspaceRecord.read(root)
    served = found.now(root)
    if served == catalogue:
        return found
    if served.is_dir():
        raise DataError(
            f"the workspace {root} serves the catalogue {served}, not {catalogue}",
            f"name another workspace with --workspace DIR, or say that its catalogue is this one now:"
            f" `molar workspace move --catalog {catalogue}`",
        )
    if not _has_files(root, catalogue):
        raise DataError(
            f"the workspace {root} serves the catalogue {served}, which is gone, and {catalogue} has other files",
            f"if it is the same shop, run `molar workspace move --catalog {catalogue}`; else name another workspace"
            " with --workspace DIR",
        )
    return found


def bind(root: Path, catalogue: Path) -> str:
    """Make the workspace at ``root`` one of this catalogue; what has moved since, as a sentence or nothing.

    Raises as :func:`check_record`.
    """
    catalogue = catalogue.resolve()
    found, record = check_record(root, catalogue), WorkspaceRecord.of(root, catalogue)
    if found is None:
        record.write(root)
    elif found.now(root) != catalogue:
        record.write(root)
        return f"the catalogue of {root} moved: from {found.now(root)} to {catalogue}"
    elif found != record:
        with suppress(OSError):  # on a read-only disk
            record.write(root)
        return "" if found.catalogue == catalogue else f"the catalogue of {root} is now at {catalogue}"
    return ""


@contextmanager
def bound(root: Path, catalogue: Path) -> Iterator[str]:
    """As :func:`bind`; a new workspace is none afterwards where a block fails, or leaves nothing in it."""
    new = not is_workspace(root)
    moved = bind(root, catalogue)
    try:
        yield moved
    except Exception:
        if new:
            _unbind(root)
        raise
    if new and not any(root.glob("*/current")):
        _unbind(root)
    elif not is_workspace(root):  # another first command has failed meanwhile
        bind(root, catalogue)


def _unbind(root: Path) -> None:
    """Take the record away, unless events were taken; what else was made may serve the next command."""
    with suppress(OSError):
        if not (root / EVENTS).exists():
            (root / RECORD).unlink()
            root.rmdir()


def workspace_for(catalogue: Path, start: Path) -> Path:
    """The workspace of a catalogue: one that is its own in ``start`` or above, else a new one in ``start``.

    It is ``.molar``, or where that is another catalogue's, ``.molar-NAME`` by the catalogue's name. A ``.molar`` in
    ``start`` without a record ends the search there.
    """
    start, catalogue = start.resolve(), catalogue.resolve()
    for root in (root for folder in _searched(start) for root in _workspaces(folder)):
        served = _served(root)
        if served == catalogue or (served and not served.is_dir() and _has_files(root, catalogue)):
            return root
    own = f"{DEFAULT_NAME}-{catalogue.name}"
    names = (DEFAULT_NAME, *(own if n == 1 else f"{own}-{n}" for n in range(1, 100)))
    return next(root for name in names if _may_have(root := start / name, catalogue))


def nearest_workspace(start: Path) -> Path:
    """The workspace nearest to ``start``, searched upward as git does; ``start/.molar`` where there is none.

    That is taken as well where it is there without a record, so that no other shop's workspace stands in for it. A
    DataError where a folder has several names them.
    """
    start = start.resolve()
    if is_unrecorded(start / DEFAULT_NAME):
        return start / DEFAULT_NAME
    for folder in _searched(start):
        found = _workspaces(folder)
        if len(found) > 1:
            each = " and ".join(f"{root.name} ({_served(root) or 'damaged'})" for root in found)
            ways = " or ".join(f"--workspace {os.path.relpath(root, start)}" for root in found)
            raise DataError(f"{len(found)} shops are in {folder}: {each}", f"say which one: {ways}")
        if found:
            return found[0]
    return start / DEFAULT_NAME


def file_beside(root: Path, name: str) -> Path:
    """A file that people write for a workspace: ``rules.toml`` beside it, ``rules-NAME.toml`` for ``.molar-NAME``."""
    path = Path(name)
    own = root.name.removeprefix(DEFAULT_NAME) if root.name.startswith(f"{DEFAULT_NAME}-") else ""
    return root.parent / f"{path.stem}{own}{path.suffix}"


def _searched(start: Path) -> list[Path]:
    return [start] if is_unrecorded(start / DEFAULT_NAME) else [start, *start.parents]


def _workspaces(folder: Path) -> list[Path]:
    named: list[Path] = []
    with suppress(OSError):
        named = sorted(folder.glob(f"{DEFAULT_NAME}-*"))
    return [root for root in (folder / DEFAULT_NAME, *named) if is_workspace(root)]


def _served(root: Path) -> Path | None:
    """The catalogue that a workspace serves; None where its record is damaged."""
    with suppress(StaleArtefactError):
        return WorkspaceRecord.read(root).now(root)
    return None


def _may_have(root: Path, catalogue: Path) -> bool:
    """Whether a catalogue may have a workspace, or be told what is wrong with it."""
    served = _served(root) if is_workspace(root) else None
    return served is None or served == catalogue or not served.is_dir()


def _has_files(root: Path, folder: Path, *, copied: bool = False) -> bool:
    """Whether a folder has the very files that the workspace's catalogue was read from, by their sizes and times.

    ``copied``: by their sizes.
    """
    store = root / "catalogue"
    try:
        manifest = json.loads((store / (store / "current").read_text("utf-8").strip() / MANIFEST).read_text("utf-8"))
        known = manifest["facts"]["sources"]["files"]
        there = {name: stamp for name, stamp in known.items() if stamp is not None}
        for name, (size, modified) in there.items():
            found = (folder / name).stat()
            if found.st_size != size or (found.st_mtime_ns != modified and not copied):
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(there)
