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
    """What ``workspace.json`` says."""

    catalogue: Path  # its folder when it was written
    beside: str  # the same from the workspace's folder

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
        """Where the catalogue is: beside the workspace as before, where its files are there, else as it was written.

        So a copy of both is a shop of its own, and a workspace beside another shop serves its own one.
        """
        beside = (root.resolve() / self.beside).resolve()
        return beside if beside != self.catalogue and _has_files(root, beside) else self.catalogue


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


def check_record(root: Path, catalogue: Path) -> None:
    """Check that a workspace at ``root``, if there is one, is this catalogue's; else that there is such a folder.

    Raises:
        DataError: If there is none, or the workspace is another catalogue's.
    """
    if not is_workspace(root):
        if not catalogue.is_dir():
            raise DataError(f"there is no folder {catalogue}", "correct the path of the catalogue")
        return
    served = WorkspaceRecord.read(root).now(root)
    if served != catalogue:
        raise DataError(
            f"the workspace {root} serves the catalogue {served}{'' if served.is_dir() else ', which is gone'}, not"
            f" {catalogue}",
            f"name another workspace with --workspace DIR, or say that its catalogue is this one now:"
            f" `molar workspace move --catalog {catalogue}`",
        )


def bind(root: Path, catalogue: Path) -> None:
    """Make the workspace at ``root`` one of this catalogue; raises as :func:`check_record`."""
    catalogue = catalogue.resolve()
    check_record(root, catalogue)
    record = WorkspaceRecord.of(root, catalogue)
    if not is_workspace(root):
        record.write(root)
    elif WorkspaceRecord.read(root) != record:  # both were moved
        with suppress(OSError):  # on a read-only disk
            record.write(root)


@contextmanager
def bound(root: Path, catalogue: Path) -> Iterator[None]:
    """As :func:`bind`; a new workspace is none afterwards where a block fails, or leaves nothing in it."""
    new = not is_workspace(root)
    bind(root, catalogue)
    try:
        yield
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
    """The ``.molar`` in ``start`` or above that is of a catalogue; where there is none, that in ``start``."""
    start, catalogue = start.resolve(), catalogue.resolve()
    for root in _found(start):
        with suppress(StaleArtefactError):
            if WorkspaceRecord.read(root).now(root) == catalogue:
                return root
    return start / DEFAULT_NAME


def nearest_workspace(start: Path) -> Path:
    """The workspace nearest to ``start``, searched upward as git does; ``start/.molar`` where there is none."""
    start = start.resolve()
    return next(_found(start), start / DEFAULT_NAME)


def file_beside(root: Path, name: str) -> Path:
    """A file that people write for a workspace: ``rules.toml`` beside it, ``rules-NAME.toml`` for ``.molar-NAME``."""
    path = Path(name)
    own = root.name.removeprefix(DEFAULT_NAME) if root.name.startswith(f"{DEFAULT_NAME}-") else ""
    return root.parent / f"{path.stem}{own}{path.suffix}"


def _found(start: Path) -> Iterator[Path]:
    """Each ``.molar`` in ``start`` or above; one in ``start`` without a record ends the search.

    So no other shop's workspace stands in for one that was not wholly restored.
    """
    if not is_unrecorded(start / DEFAULT_NAME):
        yield from (root for folder in (start, *start.parents) if is_workspace(root := folder / DEFAULT_NAME))


def _has_files(root: Path, folder: Path) -> bool:
    """Whether a folder has the files that the workspace's catalogue was read from, by their names and sizes."""
    store = root / "catalogue"
    try:
        manifest = json.loads((store / (store / "current").read_text("utf-8").strip() / MANIFEST).read_text("utf-8"))
        known = {name: stamp[0] for name, stamp in manifest["facts"]["sources"]["files"].items() if stamp is not None}
        return bool(known) and all((folder / name).stat().st_size == size for name, size in known.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
